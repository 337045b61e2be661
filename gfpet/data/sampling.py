"""Draws the examples to train on, to hold out and to evaluate on: by a seed, in whole groups."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from gfpet.data.examples import Example
from gfpet.errors import DataError

DEV_PART = 0.2


@dataclass(frozen=True)
class Splits:
    """The splits that later stages read. No example and no group is in two of them."""

    train: list[Example]
    dev: list[Example]
    eval: list[Example]
    notes: tuple[str, ...] = ()
    """One note for each requested size that was not reached."""


def split_examples(
    train: Sequence[Example],
    evaluation: Sequence[Example],
    *,
    train_size: int | None,
    dev_size: int,
    eval_size: int | None,
    seed: int,
) -> Splits:
    """Hold `dev_size` examples out of `train`, then draw the training and evaluation examples.

    Groups (the answer options of one MultiRC question) stay whole, so a split may exceed its size by the rest of a
    group. The held-out part is at most a fifth of `train`, but at least one group. It does not depend on `train_size`,
    and a smaller sample is a subset of a larger one of the same seed. Examples keep their order.

    Raises:
        DataError: fewer than two groups to train on, or no examples to evaluate on.
    """
    groups = _grouped(train)
    if len(groups) < 2 or not evaluation:
        raise DataError(
            f"{len(groups)} examples or questions to train with and {len(evaluation)} to evaluate on; prepare needs at "
            "least two (one is held out) and one. Give a source with more rows."
        )
    notes = []
    held_out = max(1, min(dev_size, math.floor(DEV_PART * len(train))))
    if held_out < dev_size:
        notes.append(f"dev: {held_out} instead of {dev_size} examples, a fifth of the {len(train)} training examples")
    order = _shuffled(groups, f"train/{seed}")
    count = min(_reach(order, held_out), len(order) - 1)
    dev, rest = order[:count], order[count:]
    kept = rest if train_size is None else rest[: _reach(rest, train_size)]
    evaluated = _shuffled(_grouped(evaluation), f"eval/{seed}")
    if eval_size is not None:
        evaluated = evaluated[: _reach(evaluated, eval_size)]
    splits = Splits(_ordered(train, kept), _ordered(train, dev), _ordered(evaluation, evaluated))
    for name, size, got in (("train", train_size, splits.train), ("eval", eval_size, splits.eval)):
        if size is not None and len(got) < size:
            notes.append(f"{name}: {len(got)} instead of {size} examples, all there are")
    return Splits(splits.train, splits.dev, splits.eval, tuple(notes))


def _grouped(examples: Sequence[Example]) -> list[list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.group or example.id, []).append(example)
    return list(groups.values())


def _shuffled(groups: list[list[Example]], seed: str) -> list[list[Example]]:
    order = list(groups)
    random.Random(seed).shuffle(order)
    return order


def _reach(groups: Sequence[Sequence[Example]], size: int) -> int:
    """Number of leading groups that hold at least `size` examples; all groups if there are fewer examples."""
    total = 0
    for count, group in enumerate(groups, start=1):
        total += len(group)
        if total >= size:
            return count
    return len(groups)


def _ordered(examples: Sequence[Example], groups: Sequence[Sequence[Example]]) -> list[Example]:
    kept = {example.id for group in groups for example in group}
    return [example for example in examples if example.id in kept]
