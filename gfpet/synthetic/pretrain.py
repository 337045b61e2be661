"""Pretrains the embedded checkpoints on the synthetic text, from scratch, in plain PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfpet.errors import ModelError, unknown
from gfpet.synthetic._shape import Growth, Recipe, Shape
from gfpet.synthetic.causal import build_gpt2, causal_batches
from gfpet.synthetic.facts import Facts
from gfpet.synthetic.spans import build_t5, grow_t5, span_batches
from gfpet.synthetic.tokenizer import build_tokenizer

__all__ = ["PAIRS", "EmbeddedPair", "Growth", "Point", "Recipe", "Shape", "pair_of", "pretrain", "rate_at", "train"]


@dataclass(frozen=True)
class Point:
    """One point of the training curve: mean loss in nats per token, and speed, since the previous point."""

    step: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class EmbeddedPair:
    """Builder, batches and settings of the two committed models of a family, `small` and `large`."""

    build: Callable[[Shape, Any, int], Any]
    """Builds a model from shape, tokenizer and seed."""
    batches: Callable[[Any, Recipe, Facts | None], Iterator[dict[str, Tensor]]]
    """Inputs of the model's forward pass, with labels; from tokenizer, recipe and facts."""
    shapes: dict[str, Shape]
    """By size; heads are 32 wide in all of them."""
    recipes: dict[str, Recipe]
    grow: Callable[[Any, int, int], Any] | None = None
    """Adds blocks to a model; from model, number of new blocks and seed. None if unsupported."""


PAIRS = {
    "gpt2": EmbeddedPair(
        build=build_gpt2,
        batches=causal_batches,
        shapes={"small": Shape(width=64, layers=3, heads=2), "large": Shape(width=128, layers=5, heads=4)},
        recipes={"small": Recipe(4000, 8, rate=4e-3), "large": Recipe(6000, 8, rate=4e-3)},
    ),
    "t5": EmbeddedPair(
        build=build_t5,
        batches=span_batches,
        shapes={
            "small": Shape(width=64, layers=2, heads=2, ffn=128),
            "large": Shape(width=128, layers=4, heads=4, ffn=192),
        },
        recipes={
            "small": Recipe(2_200, 64, rate=4e-3, embedding_factor=8.0, growth=Growth(blocks=1, steps=800, rate=1e-3)),
            "large": Recipe(
                18_000,
                64,
                rate=1.5e-3,
                embedding_factor=8.0,
                cuts=3,
                long_from=70_000,
                hold=3_500,
                ramp=25_000,
                growth=Growth(blocks=3, steps=2_000, rate=7e-4),
            ),
        },
        grow=grow_t5,
    ),
}
"""Embedded pairs by family."""


def pair_of(family: str) -> EmbeddedPair:
    """The embedded pair of a family.

    Raises:
        ModelError: there is none; the message names the nearest family.
    """
    if family not in PAIRS:
        raise ModelError(unknown("family with an embedded pair", family, PAIRS))
    return PAIRS[family]


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of a step: linear warm-up, then cosine decay to a tenth."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(
    model: Any,
    batches: Iterator[dict[str, Tensor]],
    recipe: Recipe,
    report: Callable[[Point], None] | None = None,
    every: int = 50,
    before: int = 0,
) -> list[Point]:
    """Train `model` in place and return its training curve.

    Args:
        report: receives each point of the curve at once.
        every: steps between two points.
        before: earlier steps, added to the step of each point.
    """
    embeddings = model.get_input_embeddings().weight
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2 and weight is not embeddings]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay, "factor": 1.0},
        {"params": vectors, "weight_decay": 0.0, "factor": 1.0},
        {"params": [embeddings], "weight_decay": recipe.weight_decay, "factor": recipe.embedding_factor},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
    curve: list[Point] = []
    total, tokens, since = 0.0, 0, time.perf_counter()
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe) * group["factor"]
        batch = next(batches)
        loss = model(**batch, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        total += loss.item()
        tokens += batch["input_ids"].numel()
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            steps = (step % every) + 1
            now = time.perf_counter()
            curve.append(Point(before + step + 1, total / steps, tokens / (now - since)))
            total, tokens, since = 0.0, 0, now
            if report is not None:
                report(curve[-1])
    model.train(False)
    return curve


def pretrain(
    family: str,
    size: str,
    folder: Path,
    shape: Shape | None = None,
    recipe: Recipe | None = None,
    facts: Facts | None = None,
    report: Callable[[Point], None] | None = None,
    every: int = 50,
) -> list[Point]:
    """Train a family's model of a size (`small` or `large`), write model and tokenizer, and return the curve.

    `shape` and `recipe` replace the committed ones. The weights depend only on seeds, thread count and CPU.

    Raises:
        ModelError: the family has no embedded pair, or a recipe with growth is for one that cannot grow.
    """
    pair = pair_of(family)
    recipe = recipe or pair.recipes[size]
    if recipe.growth and pair.grow is None:
        raise ModelError(f"an embedded model of family '{family}' cannot grow; leave out the recipe's `growth`.")
    tokenizer = build_tokenizer(facts)
    model = pair.build(shape or pair.shapes[size], tokenizer, recipe.seed)
    batches = pair.batches(tokenizer, recipe, facts)
    curve = train(model, batches, recipe, report, every)
    if recipe.growth and pair.grow:
        model = pair.grow(model, recipe.growth.blocks, recipe.seed)
        second = replace(recipe, steps=recipe.growth.steps, rate=recipe.growth.rate)
        curve += train(model, batches, second, report, every, before=recipe.steps)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    return curve
