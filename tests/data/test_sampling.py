"""Which examples are used for training, held out, and evaluated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfpet.data import Example, Splits, split_examples
from gfpet.errors import DataError


def _examples(sizes: list[int], split: str) -> list[Example]:
    """One group for each size; groups of one have no name, as in all tasks except MultiRC."""
    return [
        Example(f"{split}/{group}/{member}", "c", ("a", "b"), ("a", "b"), (0,), f"{split}/{group}" if size > 1 else "")
        for group, size in enumerate(sizes)
        for member in range(size)
    ]


def _split(rows: list[Example], evaluated: list[Example], **sizes: int | None) -> Splits:
    return split_examples(
        rows,
        evaluated,
        train_size=sizes.get("train"),
        dev_size=sizes.get("dev") or 5,
        eval_size=sizes.get("eval"),
        seed=sizes.get("seed") or 0,
    )


@given(
    train=st.lists(st.integers(1, 5), min_size=2, max_size=40),
    evaluation=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    train_size=st.none() | st.integers(1, 100),
    dev_size=st.integers(1, 30),
    eval_size=st.none() | st.integers(1, 60),
    seed=st.integers(0, 5),
)
def test_splits_are_disjoint_whole_ordered_and_repeatable(
    train: list[int],
    evaluation: list[int],
    train_size: int | None,
    dev_size: int,
    eval_size: int | None,
    seed: int,
) -> None:
    rows, evaluated = _examples(train, "train"), _examples(evaluation, "val")
    sizes = {"train": train_size, "dev": dev_size, "eval": eval_size, "seed": seed}
    splits = _split(rows, evaluated, **sizes)
    assert splits == _split(rows, evaluated, **sizes)
    assert splits.train
    assert splits.dev
    assert splits.eval
    groups = [{example.group or example.id for example in part} for part in (splits.train, splits.dev)]
    assert not groups[0] & groups[1]
    for part, source in ((splits.train, rows), (splits.dev, rows), (splits.eval, evaluated)):
        kept = {example.group or example.id for example in part}
        assert part == [example for example in source if (example.group or example.id) in kept]
    if train_size is None:
        assert len(splits.train) + len(splits.dev) == len(rows)
    elif len(splits.train) < train_size:
        assert len(splits.train) + len(splits.dev) == len(rows)
        assert any(note.startswith(f"train: {len(splits.train)} instead of {train_size}") for note in splits.notes)
    else:
        assert len(splits.train) < train_size + 5  # exceeds the size by less than one group
    assert len(splits.eval) >= min(eval_size or len(evaluated), len(evaluated))


def test_a_tiny_task_holds_out_a_fifth_and_says_so() -> None:
    splits = _split(_examples([1] * 250, "train"), _examples([1] * 56, "val"), train=1200, dev=200, eval=500)
    assert (len(splits.train), len(splits.dev), len(splits.eval)) == (200, 50, 56)
    assert splits.notes == (
        "dev: 50 instead of 200 examples, a fifth of the 250 training examples",
        "train: 200 instead of 1200 examples, all there are",
        "eval: 56 instead of 500 examples, all there are",
    )


def test_another_seed_draws_others_and_a_smaller_sample_is_part_of_a_larger() -> None:
    train, evaluation = _examples([1] * 1000, "train"), _examples([1] * 300, "val")
    small = _split(train, evaluation, train=100, dev=50, eval=50)
    large = _split(train, evaluation, train=400, dev=50, eval=200)
    other = _split(train, evaluation, train=100, dev=50, eval=50, seed=1)
    assert (len(small.train), len(small.dev), len(small.eval)) == (100, 50, 50)
    assert small.dev == large.dev
    assert set(small.train) < set(large.train)
    assert set(small.eval) < set(large.eval)
    assert small.notes == ()
    assert len(set(small.train) & set(other.train)) < 30
    assert small.eval != other.eval


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="1 examples or questions to train with and 1 to evaluate on"):
        _split(_examples([4], "train"), _examples([1], "val"))
    with pytest.raises(DataError, match="2 examples or questions to train with and 0 to evaluate on"):
        _split(_examples([1, 1], "train"), [])
