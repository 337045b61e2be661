"""Benchmark summary: gap closed over seeds, whether the pair of models can discriminate, and the time it took.

A pair discriminates between good and bad transfer if L tuned is clearly better than S tuned, and tuning clearly
improves both. `CONDITIONS` give the thresholds, for the average over tasks and for each task.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gfpet.pipeline import STAGE_NAMES
from gfpet.report._collect import Scope
from gfpet.report._rows import ReportRow, gap_closed
from gfpet.report._summary import Way, average_score, of_way, seed_averages, ways
from gfpet.report._tables import EMPTY, Table

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Condition:
    """One condition on a pair of models, in points from 0 to 100."""

    name: str
    value: Callable[[Mapping[str, float]], float]
    """Computes the value from the scores of `chance`, `zero_shot`, `small_tuned` and `gradient`."""
    least: float = -math.inf
    most: float = math.inf

    def holds(self, scores: Mapping[str, float]) -> bool:
        """Whether the scores meet the condition."""
        return self.least <= self.value(scores) <= self.most


CONDITIONS = (
    Condition("zero-shot L - chance, at most 15 either way", lambda s: s["zero_shot"] - s["chance"], -15.0, 15.0),
    Condition("S tuned - chance, at least 15", lambda s: s["small_tuned"] - s["chance"], 15.0),
    Condition("L tuned - S tuned, at least 4", lambda s: s["gradient"] - s["small_tuned"], 4.0),
    Condition("L tuned, at least 85", lambda s: s["gradient"], 85.0),
)


def competence_table(rows: Sequence[ReportRow], scope: Scope, family: str) -> Table:
    """Kinds by conditions: the value for the average over tasks, and the tasks that miss the condition.

    Leaves out kinds without gradient references, and families without prepared examples.
    """
    body = []
    for kind in scope.kinds:
        by_task = {task: _points(rows, family, kind, (task,)) for task in scope.tasks}
        average = _points(rows, family, kind, scope.tasks)
        if average is None:
            continue
        cells = []
        for condition in CONDITIONS:
            misses = [task for task, scores in by_task.items() if scores and not condition.holds(scores)]
            verdict = "met" if condition.holds(average) else "missed"
            cells.append(f"{condition.value(average):.1f} {verdict}" + (f"; not {', '.join(misses)}" if misses else ""))
        body.append((kind, *cells))
    return Table(f"{family}: competence", ("kind", *(condition.name for condition in CONDITIONS)), body)


def _points(rows: Sequence[ReportRow], family: str, kind: str, tasks: Sequence[str]) -> dict[str, float] | None:
    compared = (Way("chance"), Way("zero_shot"), Way("small_tuned", kind), Way("gradient", kind))
    scores = {way.method: average_score(rows, family, way, tasks) for way in compared}
    return {name: 100 * score.mean for name, score in scores.items() if score} if all(scores.values()) else None


def benchmark_table(rows: Sequence[ReportRow], scope: Scope) -> Table:
    """A row for each family and plugged method: averages over tasks with their intervals over seeds, then the time.

    A method without a kind of module gets one row for each kind of gradient reference.
    """
    body = []
    for family in scope.families:
        zero = average_score(rows, family, Way("zero_shot"), scope.tasks)
        for way in ways(rows, scope, family):
            if way.method != "plugged" or zero is None:
                continue
            plugged = seed_averages(rows, family, way, scope.tasks)
            for rival in [way.kind] if way.kind else scope.kinds or ("",):
                ceiling = seed_averages(rows, family, Way("gradient", rival), scope.tasks)
                gaps = [gap_closed(plugged[seed], zero.mean, ceiling[seed]) for seed in plugged if seed in ceiling]
                columns = [
                    [zero.mean],
                    list(seed_averages(rows, family, Way("small_tuned", rival), scope.tasks).values()),
                    list(plugged.values()),
                    list(ceiling.values()),
                    [gap for gap in gaps if gap is not None],
                ]
                name = f"{family}, {way.kind or 'any kind'}" + (f", beside {rival}" if rival != way.kind else "")
                name += way.beside
                times = (_seconds(rows, scope, family, each) for each in (way, Way("gradient", rival)))
                seconds = (EMPTY if time is None else f"{time:.1f}" for time in times)
                body.append((name, *(_over_seeds(values) for values in columns), *seconds))
    scores = ("zero-shot L", "S tuned", "plugged L", "L by gradients", "gap closed, %")
    header = ("pair, kind", *scores, "seconds", "by gradients")
    return Table("Gap closed", header, body)


def _seconds(rows: Sequence[ReportRow], scope: Scope, family: str, way: Way) -> float | None:
    """Time of all stages of a method, mean over tasks and seeds; None if a part was not measured."""
    own = [row.seconds for task in scope.tasks for row in of_way(rows, family, way, task)]
    known = [seconds for seconds in own if seconds is not None]
    return statistics.fmean(known) if known and len(known) == len(own) else None


def minutes_table(seconds: Mapping[tuple[str, ...], float], scope: Scope) -> Table:
    """Minutes of each family's stages, summed over tasks; stages that ran in parallel are added up."""
    there = {key[0] for key in seconds}
    stages = tuple(stage for stage in STAGE_NAMES if stage in there)
    body = []
    for family in scope.families:
        spent = [math.fsum(s for key, s in seconds.items() if key[:2] == (stage, family)) / 60 for stage in stages]
        body.append((family, *(f"{minutes:.1f}" for minutes in spent), f"{math.fsum(spent):.1f}"))
    return Table("Minutes", ("pair", *stages, "together"), body)


def _over_seeds(values: Sequence[float]) -> str:
    """Mean in percent; with several seeds also its t interval."""
    if not values:
        return EMPTY
    mean = 100 * statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.1f}"
    from scipy.stats import t

    reach = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * 100 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} [{mean - reach:.1f}, {mean + reach:.1f}]"
