"""Means over seeds and tasks, shared by tables and plots."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gfpet.method.registry import PAPER, title_of
from gfpet.report._collect import Scope, mean
from gfpet.report._rows import ReportRow, gap_closed

SCORE = "score"
"""The metric in tables and plots: the mean of a task's official metrics."""

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
"""Displayed names of the methods, in table order. `Bridge alone` is ladder side-tuning with S's module."""


@dataclass(frozen=True)
class Way:
    """One row of the tables: a method with its kind of module and strategy."""

    method: str
    kind: str = ""
    strategy: str = ""

    @classmethod
    def of(cls, row: ReportRow) -> Way:
        """The table row of a result."""
        return cls(row.method, row.kind, row.strategy)

    @property
    def name(self) -> str:
        """Displayed name, e.g. `plugged L, lora (scaling)`; without the strategy if it is the paper's."""
        name = METHODS.get(self.method, self.method.replace("_", " "))
        if self.kind:
            name += f", {self.kind}"
        return f"{name}{self.beside}"

    @property
    def beside(self) -> str:
        """The strategy in brackets, to follow a name; empty if it is the paper's."""
        return f" ({title_of(self.strategy)})" if self.strategy not in ("", PAPER) else ""


@dataclass(frozen=True)
class Score:
    """A method's score on one task or averaged over all; fractions from 0 to 1."""

    mean: float
    std: float | None
    """Sample standard deviation over seeds; None for one seed."""
    ci_low: float | None
    """Lower end of the interval, mean over seeds."""
    ci_high: float | None
    peak: int | None
    """Peak bytes: the maximum over seeds (and tasks)."""


def ways(rows: Sequence[ReportRow], scope: Scope, family: str) -> list[Way]:
    """All rows of a family's table, sorted by method, then kind as configured, then strategy."""
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
    """Score on one task, or None without results."""
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
    """Mean over tasks. None unless every task has a score, since averages over different tasks are not comparable."""
    scores = [task_score(rows, family, way, task) for task in tasks]
    known = [score for score in scores if score is not None]
    if len(known) < len(tasks):
        return None
    averages = list(seed_averages(rows, family, way, tasks).values())
    std = statistics.stdev(averages) if len(averages) > 1 else None
    return Score(statistics.fmean(s.mean for s in known), std, None, None, _most([s.peak for s in known]))


def seed_averages(rows: Sequence[ReportRow], family: str, way: Way, tasks: Sequence[str]) -> dict[int | None, float]:
    """Mean over tasks by seed, for the seeds that every task has."""
    by_task = [
        {row.seed: row.value for row in of_way(rows, family, way, task) if row.value is not None} for task in tasks
    ]
    seeds = set[int | None].intersection(*(set(values) for values in by_task))
    return {seed: statistics.fmean(values[seed] for values in by_task) for seed in sorted(seeds, key=str)}


def task_gap(rows: Sequence[ReportRow], family: str, way: Way, task: str) -> float | None:
    """Gap closed on one task, mean over seeds."""
    return mean(row.gap_closed for row in of_way(rows, family, way, task))


def average_gap(rows: Sequence[ReportRow], family: str, way: Way, tasks: Sequence[str]) -> float | None:
    """Gap closed of the average scores. The mean of ratios would be dominated by the task with the smallest gap."""
    compared = (way, Way("zero_shot"), Way("gradient", way.kind))
    scores = [average_score(rows, family, other, tasks) for other in compared]
    own, zero, ceiling = (None if score is None else score.mean for score in scores)
    return gap_closed(own, zero, ceiling)


def _most(peaks: Sequence[int | None]) -> int | None:
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known and len(known) == len(peaks) else None
