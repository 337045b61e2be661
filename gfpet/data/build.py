"""Builds examples from rows by filling the templates."""

from __future__ import annotations

from collections.abc import Iterable

from gfpet.data.examples import Example
from gfpet.data.formats import FORMATS
from gfpet.data.rows import Row
from gfpet.data.task import Task


def build_examples(task: Task, split: str, rows: Iterable[Row]) -> list[Example]:
    """All examples of checked rows, in order. MultiRC has one for each answer option, ReCoRD one for each query.

    Args:
        split: part of the examples' ids: `<task>/<split>/<idx>`.
    """
    examples = FORMATS[task.rows].examples
    return [example for row in rows for example in examples(task, f"{task.name}/{split}/{row.idx}", row.value)]
