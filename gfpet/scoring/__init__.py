"""Scoring candidates with a language model."""

from __future__ import annotations

from gfpet.scoring._encode import Batch, EncodedExample, Row, batches, collate, encode, framed_rows
from gfpet.scoring._score import (
    Predictions,
    Trunk,
    backward_loss,
    candidate_scores,
    head_of,
    predict,
    ranking_loss,
    trunk_of,
)

__all__ = [
    "Batch",
    "EncodedExample",
    "Predictions",
    "Row",
    "Trunk",
    "backward_loss",
    "batches",
    "candidate_scores",
    "collate",
    "encode",
    "framed_rows",
    "head_of",
    "predict",
    "ranking_loss",
    "trunk_of",
]
