"""Writes golden.json: scores of a tiny model with a fixed seed, computed without `gfpet.lm.scoring`.

Run it only to change the tiny model or the examples: `python -m tests.lm.scoring.make_golden`.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from gfpet.data.examples import Example
from tests.tiny import RANKING, VERBALIZER, logits_of, tiny_gpt2

PATH = Path(__file__).with_name("golden.json")


def naive_scores(model: nn.Module, example: Example) -> list[float]:
    """Mean log-likelihood of each candidate after the context, one sequence at a time over the whole vocabulary."""
    context, scores = list(example.context.encode()), []
    for candidate in example.candidates:
        tokens = list(candidate.encode())
        logits = logits_of(model, torch.tensor([context + tokens]))[0].log_softmax(-1)
        likelihoods = [logits[len(context) - 1 + step, token] for step, token in enumerate(tokens)]
        scores.append(float(torch.stack(likelihoods).mean()))
    return scores


def golden() -> dict[str, list[float]]:
    model = tiny_gpt2(24, 3, heads=4)
    return {example.id: naive_scores(model, example) for example in (*VERBALIZER, *RANKING)}


if __name__ == "__main__":
    PATH.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
