"""Means over seeds and tasks: what the tables and the plots both show."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gfpet.method.registry import PAPER, title_of
from gfpet.report._collect import Scope, mean
from gfpet.report._rows import ReportRow, gap_closed

SCORE = "score"
"""The metric that tables and plots show: the mean of a task's official metrics."""

METHODS = {
    "chance": "guessing",
    "majority": "always the commonest answer",
    "zero_shot": "zero-shot L",
    "small_tuned": "S tuned",
    "random_w_plug": "random W_plug",
    "bridge_alone": "Bridge alone",
    "plugged": "plugged L",
    "gradient": "L by gradients",
    "full": "L, full fine-tuning",
}
"""Names of the methods, in the order of the tables."""


@dataclass(frozen=True)
class Way:
    """A row of the tables: a method with its kind and strategy."""

    method: str
    kind: str = ""
    strategy: str = ""

    @classmethod
    def of(cls, row: ReportRow) -> Way:
        """The row of the tables that a result belongs to."""
        return cls(row.method, row.kind, row.strategy)

    @property
    def name(self) -> str:
        """E.g. `plugged L, lora (scaling)`; without the strategy if it is the paper's."""
        name = METHODS.get(self.method, self.method.replace("_", " "))
        if self.kind:
            name += f", {self.kind}"
        return f"{name}{self.beside}"

    @property
    def beside(self) -> str:
        """The strategy in brackets, to stand behind a name; empty if it is the paper's."""
        return f" ({title_of(self.strategy)})" if self.strategy not in ("", PAPER) else ""


@dataclass(frozen=True)
class Score:
    """A method's score on one task, or on the average of all; fractions from 0 to 1."""

    mean: float
    std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    ci_low: float | None
    """Mean over seeds of the interval's end."""
    ci_high: float | None
    peak: int | None
    """Most bytes over seeds (and tasks)."""


def ways(rows: Sequence[ReportRow], scope: Scope, family: str) -> list[Way]:
    """All rows of a family's table, in order: methods, then kinds as configured, then strategies."""
    methods = list(METHODS)
    found = {Way.of(row) for row in rows if row.family == family}

    def place(way: Way) -> tuple[int, str, int, str]:
        known = methods.index(way.method) if way.method in methods else len(methods)
        return known, way.method, scope.kinds.index(way.kind) if way.kind in scope.kinds else -1, way.strategy

    return sorted(found, key=place)


def of_way(rows: Sequence[ReportRow], family: str, way: Way, task: str) -> list[ReportRow]:
    """The scores of a method on a task, one for each seed."""
    return [
        row
        for row in rows
        if (row.family, row.task, row.metric) == (family, task, SCORE) and Way.of(row) == way and row.value is not None
    ]


def task_score(rows: Sequence[ReportRow], family: str, way: Way, task: str) -> Score | None:
    """Score on one task; None where there is none."""
    own = of_way(rows, family, way, task)
    if not own:
        return None
    values = [row.value for row in own if row.value is not None]
    peaks = [row.peak_memory_bytes for row in own]
    return Score(
        statistics.fmean(values),
        statistics.stdev(values) if len(values) > 1 else None,
        mean(row.ci_low for row in own),
        mean(row.ci_high for row in own),
        _most(peaks),
    )


def average_score(rows: Sequence[ReportRow], family: str, way: Way, tasks: Sequence[str]) -> Score | None:
    """Mean over tasks; None unless every task has a score, since averages over other tasks do not compare."""
    scores = [task_score(rows, family, way, task) for task in tasks]
    known = [score for score in scores if score is not None]
    if len(known) < len(tasks):
        return None
    averages = list(seed_averages(rows, family, way, tasks).values())
    std = statistics.stdev(averages) if len(averages) > 1 else None
    return Score(statistics.fmean(s.mean for s in known), std, None, None, _most([s.peak for s in known]))


def seed_averages(rows: Sequence[ReportRow], family: str, way: Way, tasks: Sequence[str]) -> dict[int | None, float]:
    """Mean over tasks, by seed; only of seeds that every task has."""
    by_task = [
        {row.seed: row.value for row in of_way(rows, family, way, task) if row.value is not None} for task in tasks
    ]
    seeds = set[int | None].intersection(*(set(values) for values in by_task))
    return {seed: statistics.fmean(values[seed] for values in by_task) for seed in sorted(seeds, key=str)}


def task_gap(rows: Sequence[ReportRow], family: str, way: Way, task: str) -> float | None:
    """Gap closed on one task: the mean over seeds."""
    return mean(row.gap_closed for row in of_way(rows, family, way, task))


def average_gap(rows: Sequence[ReportRow], family: str, way: Way, tasks: Sequence[str]) -> float | None:
    """Gap closed of the average scores: in a mean of ratios the task with the smallest gap would rule."""
    compared = (way, Way("zero_shot"), Way("gradient", way.kind))
    scores = [average_score(rows, family, other, tasks) for other in compared]
    own, zero, ceiling = (None if score is None else score.mean for score in scores)
    return gap_closed(own, zero, ceiling)


def _most(peaks: Sequence[int | None]) -> int | None:
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known and len(known) == len(peaks) else None
