"""Scoring candidates with a language model."""

from __future__ import annotations

from gfpet.lm.scoring._encode import Batch, EncodedExample, Row, batches, collate, encode, templated_rows
from gfpet.lm.scoring._measured import score_split
from gfpet.lm.scoring._score import (
    Backbone,
    Predictions,
    backbone_of,
    backward_loss,
    candidate_scores,
    head_of,
    predict,
    ranking_loss,
)
from gfpet.lm.scoring._task_data import Split, TaskData, dev_score, load_task, task_score
from gfpet.lm.scoring._tokens import pad_token, pair_tokens, plain_tokens, shortened, start_tokens, text_tokens

__all__ = [
    "Backbone",
    "Batch",
    "EncodedExample",
    "Predictions",
    "Row",
    "Split",
    "TaskData",
    "backbone_of",
    "backward_loss",
    "batches",
    "candidate_scores",
    "collate",
    "dev_score",
    "encode",
    "head_of",
    "load_task",
    "pad_token",
    "pair_tokens",
    "plain_tokens",
    "predict",
    "ranking_loss",
    "score_split",
    "shortened",
    "start_tokens",
    "task_score",
    "templated_rows",
    "text_tokens",
]
