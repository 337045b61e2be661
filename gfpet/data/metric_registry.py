"""Metrics, by the names that task files use. All values are fractions from 0 to 1.

A metric is a function of sums over groups of examples. So one implementation gives the score, every bootstrap resample
and the expected score of guessing.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from gfpet.data.examples import Example

Array = np.ndarray


@dataclass(frozen=True)
class Metric:
    """The terms that examples add to sums, and the metric as a function of the sums."""

    sums: Callable[[Sequence[Example], Sequence[Array]], Float[Array, "examples sums"]]
    """One row of terms per example, from the probability with which each of its candidates is chosen."""
    value: Callable[[Float[Array, "... sums"]], Float[Array, ...]]
    """The metric, from the sums over any number of groups."""
    classes: bool = False
    """Whether all examples must have the same candidates."""
    by_group: Callable[[Float[Array, "examples sums"]], Float[Array, " sums"]] | None = None
    """The row of a group, from the rows of its examples; None adds them up."""


def _right(examples: Sequence[Example], chosen: Sequence[Array]) -> Float[Array, " examples"]:
    return np.array([weight[list(example.gold)].sum() for example, weight in zip(examples, chosen, strict=True)])


def _right_of_all(examples: Sequence[Example], chosen: Sequence[Array]) -> Float[Array, "examples 2"]:
    """Sums: number of examples (or groups), number of right ones."""
    right = _right(examples, chosen)
    return np.stack([np.ones_like(right), right], axis=1)


def _second_of_first(sums: Float[Array, "... 2"]) -> Float[Array, ...]:
    value: Array = sums[..., 1] / sums[..., 0]
    return value


def _whole_group(rows: Float[Array, "examples 2"]) -> Float[Array, 2]:
    """A group counts once, and is right if all its examples are."""
    return np.array([1.0, rows[:, 1].prod()])


def _by_class(examples: Sequence[Example], chosen: Sequence[Array]) -> Float[Array, "examples sums"]:
    """Sums for each class: true positives, predicted, actual."""
    predicted = np.stack(list(chosen))
    actual = np.zeros_like(predicted)
    actual[np.arange(len(examples)), [example.gold[0] for example in examples]] = 1.0
    return np.concatenate([predicted * actual, predicted, actual], axis=1)


def _macro(sums: Float[Array, "... sums"]) -> Float[Array, ...]:
    hits, guessed, there = np.split(sums, 3, axis=-1)
    # As in scikit-learn, the mean omits a class that neither occurs nor is predicted: its F1 is undefined.
    seen = guessed + there > 0
    f1 = 2.0 * hits / np.where(seen, guessed + there, 1.0)
    value: Array = f1.sum(-1) / seen.sum(-1)
    return value


def _of_first_class(examples: Sequence[Example], chosen: Sequence[Array]) -> Float[Array, "examples 3"]:
    """Sums for the first label: true positives, predicted, actual."""
    predicted = np.array([weight[0] for weight in chosen])
    actual = np.array([float(0 in example.gold) for example in examples])
    return np.stack([predicted * actual, predicted, actual], axis=1)


def _f1(sums: Float[Array, "... 3"]) -> Float[Array, ...]:
    both = sums[..., 1] + sums[..., 2]
    value: Array = 2.0 * sums[..., 0] / np.where(both > 0, both, 1.0)
    return value


def _of_words(
    measure: Callable[[str, Sequence[str]], float],
) -> Callable[[Sequence[Example], Sequence[Array]], Float[Array, "examples 2"]]:
    """Sums: number of examples, and a measure of the chosen label's words against those of all right labels."""

    def sums(examples: Sequence[Example], chosen: Sequence[Array]) -> Float[Array, "examples 2"]:
        rows = np.zeros((len(examples), 2))
        rows[:, 0] = 1.0
        for row, example, weight in zip(rows, examples, chosen, strict=True):
            golds = [_normalized(example.labels[index]) for index in example.gold]
            for index in np.flatnonzero(weight):
                row[1] += weight[index] * measure(_normalized(example.labels[index]), golds)
        return rows

    return sums


def _normalized(answer: str) -> str:
    """SQuAD's normalization: lower case, no punctuation, no articles, single spaces."""
    text = "".join(character for character in answer.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _token_f1(answer: str, gold: str) -> float:
    first, second = answer.split(), gold.split()
    common = sum((Counter(first) & Counter(second)).values())
    return 2.0 * common / (len(first) + len(second)) if common else 0.0


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        # Share of right examples. In WSC, a false label makes all candidates but the first gold, so candidate 0
        # predicts "true" and any other predicts "false".
        "accuracy": Metric(_right_of_all, _second_of_first),
        # F1 of the first label.
        "f1": Metric(_of_first_class, _f1, classes=True),
        # Mean F1 over the labels that occur or are predicted.
        "f1_macro": Metric(_by_class, _macro, classes=True),
        # Share of groups with every example right (MultiRC's exact match of a question).
        "group_accuracy": Metric(_right_of_all, _second_of_first, by_group=_whole_group),
        # Best word overlap (F1) with a right label, and equality with one, after SQuAD's normalization (ReCoRD).
        "token_f1": Metric(
            _of_words(lambda answer, golds: max(_token_f1(answer, gold) for gold in golds)), _second_of_first
        ),
        "token_match": Metric(_of_words(lambda answer, golds: float(answer in golds)), _second_of_first),
    }
)
"""Metrics by name. A task file lists names under `metrics`."""
