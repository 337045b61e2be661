"""Turns rows of the synthetic benchmark into examples, like stage `prepare`."""

from __future__ import annotations

from collections.abc import Sequence

from gfpet.data import Example, RawRow, build_examples, check_rows, find_task
from gfpet.synthetic.tasks import Row


def examples_of(task: str, split: str, rows: Sequence[Row]) -> list[Example]:
    checked, broken = check_rows(find_task(task), [RawRow(f"{task}:{at}", row) for at, row in enumerate(rows)])
    assert broken == []
    return build_examples(find_task(task), split, checked)
