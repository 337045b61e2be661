"""SuperGLUE's official metrics, their bootstrap intervals, and what guessing would score.

Every metric is a function of sums over groups of examples (`_Statistics`), so that the score, each bootstrap resample
and the expectation of a guess go through the same few lines. All values are fractions from 0 to 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gfpet.data.benchmark import task_info
from gfpet.data.examples import Example
from gfpet.errors import DataError, unknown

Array = np.ndarray
SCORE = "score"
_CHUNK = 64


@dataclass(frozen=True)
class _Statistics:
    """Per group (rows) what its examples add to each sum (columns), and the metrics of such sums."""

    table: Float[Array, "groups sums"]
    metrics: Callable[[Float[Array, "... sums"]], dict[str, Array]]


def score(task: str, examples: Sequence[Example], predictions: Sequence[int]) -> dict[str, float]:
    """The task's official metrics and their mean, `score`, as fractions.

    `accuracy` (of the boolean, in WSC: true is predicted iff candidate 0 wins, since all others are gold where the
    label is false); CB's `f1_macro` over the classes that occur or are predicted; MultiRC's `f1a` over all answer
    options and `em`, the part of questions with every option right; ReCoRD's `f1` (best token overlap with a right
    entity) and `em`, both after SQuAD's normalization.

    Args:
        predictions: index of the candidate chosen, for each example.

    Raises:
        DataError: no examples, another number of predictions, or a prediction that is no candidate.
    """
    _check(examples, predictions)
    return _scores(_statistics(task, examples, _certain(examples, predictions)))


def interval(
    task: str,
    examples: Sequence[Example],
    predictions: Sequence[int],
    metric: str,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of one metric, as `intervals` computes it.

    Args:
        metric: one of the task's metrics, or `score`.

    Raises:
        DataError: as `score`, or the task has no such metric.
    """
    allowed = (*task_info(task).metrics, SCORE)
    if metric not in allowed:
        raise DataError(unknown(f"metric of task {task}", metric, allowed))
    return intervals(task, examples, predictions, confidence, resamples, seed)[metric]


def intervals(
    task: str,
    examples: Sequence[Example],
    predictions: Sequence[int],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all metrics of a task, drawing whole groups with replacement.

    Args:
        confidence: part of the resamples between the two ends.

    Raises:
        DataError: as `score`.
    """
    _check(examples, predictions)
    statistics = _statistics(task, examples, _certain(examples, predictions))
    groups = len(statistics.table)
    draw = np.random.default_rng(seed)
    values: list[dict[str, Array]] = []
    for start in range(0, resamples, _CHUNK):
        drawn = draw.integers(groups, size=(min(_CHUNK, resamples - start), groups))
        # How often each group was drawn; weights, not copies of rows, keep this small for ReCoRD's 10,000.
        counts = np.stack([np.bincount(row, minlength=groups) for row in drawn]).astype(np.float64)
        values.append(_with_score(statistics.metrics(counts @ statistics.table)))
    tail = (1.0 - confidence) / 2.0
    ends = {
        metric: np.quantile(np.concatenate([chunk[metric] for chunk in values]), [tail, 1.0 - tail])
        for metric in values[0]
    }
    return {metric: (float(low), float(high)) for metric, (low, high) in ends.items()}


def chance(task: str, examples: Sequence[Example]) -> dict[str, float]:
    """What choosing a candidate uniformly at random scores.

    The expectation, for accuracy, `em` and ReCoRD's `f1`; for `f1_macro` and `f1a` the F1 of the expected counts.
    """
    _check(examples, None)
    even = [np.full(len(example.candidates), 1.0 / len(example.candidates)) for example in examples]
    return _scores(_statistics(task, examples, even))


def majority(task: str, examples: Sequence[Example]) -> dict[str, float]:
    """What the best single index scores when it is always chosen: the commonest class of a verbalizer task."""
    _check(examples, None)
    everywhere = range(min(len(example.candidates) for example in examples))
    right = Counter(index for example in examples for index in example.gold)
    best = max(everywhere, key=lambda index: right[index])
    return score(task, examples, [best] * len(examples))


def _statistics(task: str, examples: Sequence[Example], chosen: Sequence[Array]) -> _Statistics:
    """Expected sums, where `chosen` holds each example's probabilities of its candidates being chosen."""
    metrics = task_info(task).metrics
    if metrics == ("f1", "em"):
        return _record(examples, chosen)
    if metrics == ("f1a", "em"):
        return _multirc(examples, chosen)
    return _classes(examples, chosen, macro="f1_macro" in metrics)


def _classes(examples: Sequence[Example], chosen: Sequence[Array], macro: bool) -> _Statistics:
    """Sums: examples, right ones; with `macro` also true positives, predicted and actual ones for each class."""
    right = np.array([_right(example, weight) for example, weight in zip(examples, chosen, strict=True)])
    table = np.stack([np.ones_like(right), right], axis=1)
    if not macro:
        return _Statistics(table, lambda sums: {"accuracy": sums[..., 1] / sums[..., 0]})
    classes = len(examples[0].candidates)
    predicted = np.stack(list(chosen))
    actual = np.zeros_like(predicted)
    actual[np.arange(len(examples)), [example.gold[0] for example in examples]] = 1.0
    table = np.concatenate([table, predicted * actual, predicted, actual], axis=1)

    def metrics(sums: Array) -> dict[str, Array]:
        hits, guessed, there = (sums[..., 2 + part * classes : 2 + (part + 1) * classes] for part in range(3))
        # A class that neither occurs nor is predicted has no F1 and is left out of the mean, as in scikit-learn.
        seen = guessed + there > 0
        f1 = 2.0 * hits / np.where(seen, guessed + there, 1.0)
        return {"accuracy": sums[..., 1] / sums[..., 0], "f1_macro": f1.sum(-1) / seen.sum(-1)}

    return _Statistics(table, metrics)


def _multirc(examples: Sequence[Example], chosen: Sequence[Array]) -> _Statistics:
    """Sums over questions: questions, wholly right ones, then hits, predicted and actual right options."""
    rows: dict[str, Array] = {}
    for example, weight in zip(examples, chosen, strict=True):
        row = rows.setdefault(example.group or example.id, np.array([1.0, 1.0, 0.0, 0.0, 0.0]))
        actual = float(0 in example.gold)
        row[1] *= _right(example, weight)
        row[2:] += (weight[0] * actual, weight[0], actual)

    def metrics(sums: Array) -> dict[str, Array]:
        both = sums[..., 3] + sums[..., 4]
        f1a = 2.0 * sums[..., 2] / np.where(both > 0, both, 1.0)
        return {"f1a": f1a, "em": sums[..., 1] / sums[..., 0]}

    return _Statistics(np.stack(list(rows.values())), metrics)


def _record(examples: Sequence[Example], chosen: Sequence[Array]) -> _Statistics:
    """Sums over queries: queries, F1, exact matches."""
    rows = np.zeros((len(examples), 3))
    rows[:, 0] = 1.0
    for row, example, weight in zip(rows, examples, chosen, strict=True):
        golds = [_normalized(example.labels[index]) for index in example.gold]
        for index in np.flatnonzero(weight):
            answer = _normalized(example.labels[index])
            row[1] += weight[index] * max(_token_f1(answer, gold) for gold in golds)
            row[2] += weight[index] * (answer in golds)
    return _Statistics(rows, lambda sums: {"f1": sums[..., 1] / sums[..., 0], "em": sums[..., 2] / sums[..., 0]})


def _scores(statistics: _Statistics) -> dict[str, float]:
    values = _with_score(statistics.metrics(statistics.table.sum(axis=0, keepdims=True)))
    return {name: float(value[0]) for name, value in values.items()}


def _with_score(values: Mapping[str, Array]) -> dict[str, Array]:
    return {**values, SCORE: np.mean(list(values.values()), axis=0)}


def _right(example: Example, weight: Array) -> float:
    return float(weight[list(example.gold)].sum())


def _certain(examples: Sequence[Example], predictions: Sequence[int]) -> list[Array]:
    """All weight on the candidate chosen."""
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


def _normalized(answer: str) -> str:
    """SQuAD's normalization: lower case, no punctuation, no articles, single spaces."""
    text = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _token_f1(answer: str, gold: str) -> float:
    first, second = answer.split(), gold.split()
    common = sum((Counter(first) & Counter(second)).values())
    return 2.0 * common / (len(first) + len(second)) if common else 0.0
