"""A task's metrics of predictions, their bootstrap intervals, and the scores of guessing.

All values are fractions from 0 to 1. `gfpet.data.metric_registry` defines the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from gfpet.data.catalogue import scored_task
from gfpet.data.examples import Example
from gfpet.data.metric_registry import METRICS, Array, Metric
from gfpet.data.task import Task
from gfpet.errors import DataError, unknown

SCORE = "score"
_CHUNK = 64


def score(task: str | Task, examples: Sequence[Example], predictions: Sequence[int]) -> dict[str, float]:
    """The task's metrics and their mean, `score`, as fractions.

    Args:
        task: a task, or the name of a task that is shipped or prepared in this folder.
        predictions: index of the chosen candidate of each example.

    Raises:
        DataError: no examples, a wrong number of predictions, a prediction out of range, an unknown task, or
            candidates that differ between examples although a metric needs the same ones.
    """
    _check(examples, predictions)
    return _scores(_task(task), examples, _certain(examples, predictions))


def interval(
    task: str | Task,
    examples: Sequence[Example],
    predictions: Sequence[int],
    metric: str,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The bootstrap interval of one metric; see `intervals`.

    Args:
        metric: one of the task's metrics, or `score`.

    Raises:
        DataError: as `score`, or the task has no such metric.
    """
    task = _task(task)
    allowed = (*task.metrics, SCORE)
    if metric not in allowed:
        raise DataError(unknown(f"metric of task {task.name}", metric, allowed))
    return intervals(task, examples, predictions, confidence, resamples, seed)[metric]


def intervals(
    task: str | Task,
    examples: Sequence[Example],
    predictions: Sequence[int],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all metrics of a task; resamples whole groups with replacement.

    Args:
        confidence: share of the resamples between the two ends.

    Raises:
        DataError: as `score`.
    """
    _check(examples, predictions)
    metrics = _task(task).metrics
    tables = {name: (each, table) for name, each, table in _tables(metrics, examples, _certain(examples, predictions))}
    groups = len(_groups(examples))
    draw = np.random.default_rng(seed)
    values: list[dict[str, Array]] = []
    for start in range(0, resamples, _CHUNK):
        drawn = draw.integers(groups, size=(min(_CHUNK, resamples - start), groups))
        # Count how often each group was drawn: copies of rows would need much memory for ReCoRD's 10,000.
        counts = np.stack([np.bincount(row, minlength=groups) for row in drawn]).astype(np.float64)
        values.append(_with_score({name: each.value(counts @ table) for name, (each, table) in tables.items()}))
    tail = (1.0 - confidence) / 2.0
    ends = {
        metric: np.quantile(np.concatenate([chunk[metric] for chunk in values]), [tail, 1.0 - tail])
        for metric in values[0]
    }
    return {metric: (float(low), float(high)) for metric, (low, high) in ends.items()}


def chance(task: str | Task, examples: Sequence[Example]) -> dict[str, float]:
    """The score of choosing a candidate uniformly at random.

    For accuracies and word measures this is the expectation; for class F1, the F1 of the expected counts.
    """
    _check(examples, None)
    even = [np.full(len(example.candidates), 1.0 / len(example.candidates)) for example in examples]
    return _scores(_task(task), examples, even)


def majority(task: str | Task, examples: Sequence[Example]) -> dict[str, float]:
    """The score of always choosing the index that is right most often: in a task with labels, the commonest class."""
    _check(examples, None)
    everywhere = range(min(len(example.candidates) for example in examples))
    right = Counter(index for example in examples for index in example.gold)
    best = max(everywhere, key=lambda index: right[index])
    return score(task, examples, [best] * len(examples))


def _task(task: str | Task) -> Task:
    return task if isinstance(task, Task) else scored_task(task)


def _groups(examples: Sequence[Example]) -> list[list[int]]:
    """Indices of the examples of each group; an example without a group is its own group."""
    groups: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(example.group or example.id, []).append(index)
    return list(groups.values())


def _tables(
    metrics: Mapping[str, str], examples: Sequence[Example], chosen: Sequence[Array]
) -> Iterator[tuple[str, Metric, Float[Array, "groups sums"]]]:
    """Each metric's sums by group, where `chosen` has the probability of each candidate of each example."""
    groups = _groups(examples)
    for name, metric in ((name, METRICS[key]) for name, key in metrics.items()):
        if metric.classes and len({len(example.candidates) for example in examples}) > 1:
            raise DataError(f"metric {name} needs the same candidates in every example; these have different numbers.")
        rows = metric.sums(examples, chosen)
        if metric.by_group:
            rows = np.stack([metric.by_group(rows[group]) for group in groups])
        elif len(groups) < len(examples):
            rows = np.stack([rows[group].sum(axis=0) for group in groups])
        yield name, metric, rows


def _scores(task: Task, examples: Sequence[Example], chosen: Sequence[Array]) -> dict[str, float]:
    values = {
        name: metric.value(table.sum(axis=0, keepdims=True))
        for name, metric, table in _tables(task.metrics, examples, chosen)
    }
    return {name: float(value[0]) for name, value in _with_score(values).items()}


def _with_score(values: Mapping[str, Array]) -> dict[str, Array]:
    return {**values, SCORE: np.mean(list(values.values()), axis=0)}


def _certain(examples: Sequence[Example], predictions: Sequence[int]) -> list[Array]:
    """Probability 1 for the chosen candidate."""
    weights = [np.zeros(len(example.candidates)) for example in examples]
    for weight, index in zip(weights, predictions, strict=True):
        weight[index] = 1.0
    return weights


def _check(examples: Sequence[Example], predictions: Sequence[int] | None) -> None:
    if not examples:
        raise DataError("no examples to score; prepare.eval_size must be at least 1.")
    if predictions is None:
        return
    if len(predictions) != len(examples):
        raise DataError(f"{len(predictions)} predictions for {len(examples)} examples; give one for each.")
    for example, index in zip(examples, predictions, strict=True):
        if not 0 <= index < len(example.candidates):
            raise DataError(
                f"prediction {index} for {example.id}, which has candidates 0 to {len(example.candidates) - 1}."
            )
