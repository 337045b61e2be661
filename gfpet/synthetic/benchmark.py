"""Generates the task rows of the synthetic benchmark from a seed."""

from __future__ import annotations

import json
import random

from gfpet.errors import DataError, unknown
from gfpet.synthetic.facts import Facts, facts_of_seed
from gfpet.synthetic.tasks import TASKS, Row

ATTEMPTS = 200
"""Draws per row before a split counts as exhausted."""


def generate(
    task: str, seed: int, train: int, evaluation: int, facts: Facts | None = None
) -> tuple[list[Row], list[Row]]:
    """Train and evaluation rows of a task, in the form of the SuperGLUE release, the same for the same seed.

    A row of MultiRC holds one passage with one question and four answers, a row of ReCoRD one query.

    Raises:
        DataError: an unknown task, or more rows than the benchmark has.
    """
    if task not in TASKS:
        raise DataError(unknown("task of the world", task, TASKS))
    facts = facts or facts_of_seed()
    return _rows(task, seed, train, facts, evaluation=False), _rows(task, seed, evaluation, facts, evaluation=True)


def _rows(task: str, seed: int, count: int, facts: Facts, evaluation: bool) -> list[Row]:
    split = "evaluation" if evaluation else "train"
    rng = random.Random(f"{task}-{split}-{seed}")
    entities = facts.side(evaluation)
    rows: list[Row] = []
    seen: set[str] = set()
    for turn in range(count):
        for _ in range(ATTEMPTS):
            row = TASKS[task](rng, entities, turn)
            key = json.dumps(row, sort_keys=True)
            if key not in seen:
                break
        else:
            raise DataError(
                f"{count} {split} rows of '{task}' were asked for, the world has no more than about {turn}: "
                "ask for fewer."
            )
        seen.add(key)
        rows.append(row)
    rng.shuffle(rows)
    return [_numbered(task, number, row) for number, row in enumerate(rows)]


def _numbered(task: str, number: int, row: Row) -> Row:
    if task == "multirc":
        for offset, answer in enumerate(row["passage"]["questions"][0]["answers"]):
            answer["idx"] = 4 * number + offset
        row["passage"]["questions"][0]["idx"] = number
    if task == "record":
        row["qas"][0]["idx"] = number
    return {**row, "idx": number}
