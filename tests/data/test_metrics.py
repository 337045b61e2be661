"""Official metrics against hand-computed values and scikit-learn; intervals; scores of guessing."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from gfpet.data import Example, chance, interval, majority, score, shipped_tasks
from gfpet.data.metrics import SCORE
from gfpet.errors import DataError


def _classes(golds: list[int], classes: int, group: int = 0) -> list[Example]:
    names = tuple("abc"[:classes])
    return [
        Example(str(at), "c", names, names, (gold,), str(at // group) if group else "") for at, gold in enumerate(golds)
    ]


def _entities(*cases: tuple[tuple[str, ...], tuple[int, ...]]) -> list[Example]:
    return [Example(str(at), "c", names, names, gold) for at, (names, gold) in enumerate(cases)]


def _labels(classes: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    label = st.integers(0, classes - 1)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40)


@given(pairs=_labels(3))
def test_cb_agrees_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    golds, predictions = [gold for gold, _ in pairs], [guess for _, guess in pairs]
    found = score("cb", _classes(golds, 3), predictions)
    assert found["accuracy"] == pytest.approx(accuracy_score(golds, predictions))
    assert found["f1_macro"] == pytest.approx(f1_score(golds, predictions, average="macro", zero_division=0))
    assert found[SCORE] == pytest.approx((found["accuracy"] + found["f1_macro"]) / 2)


@given(pairs=_labels(2), group=st.integers(1, 5))
def test_multirc_agrees_with_scikit_learn(pairs: list[tuple[int, int]], group: int) -> None:
    golds, predictions = [gold for gold, _ in pairs], [guess for _, guess in pairs]
    found = score("multirc", _classes(golds, 2, group), predictions)
    assert found["f1a"] == pytest.approx(f1_score(golds, predictions, pos_label=0, zero_division=0))
    questions = [pairs[start : start + group] for start in range(0, len(pairs), group)]
    whole = [all(gold == guess for gold, guess in question) for question in questions]
    assert found["em"] == pytest.approx(sum(whole) / len(whole))


@pytest.mark.parametrize("task", ["boolq", "copa", "rte", "wic"])
def test_accuracy(task: str) -> None:
    assert score(task, _classes([0, 1, 1, 0], 2), [0, 1, 0, 0]) == {"accuracy": 0.75, SCORE: 0.75}


def test_wsc_counts_the_boolean() -> None:
    """If the label is false, every other candidate is gold: choosing any of them means false."""
    true, false = (
        Example("0", "c", ("a", "b", "d"), ("a", "b", "d"), (0,)),
        Example("1", "c", ("a", "b", "d"), ("a", "b", "d"), (1, 2)),
    )
    examples = [true, true, false, false, false]
    assert score("wsc", examples, [0, 2, 0, 1, 2])["accuracy"] == pytest.approx(3 / 5)
    assert chance("wsc", examples)["accuracy"] == pytest.approx((2 / 3 + 3 * 2 / 3) / 5)
    assert majority("wsc", examples)["accuracy"] == pytest.approx(3 / 5)


def test_record_by_hand() -> None:
    examples = _entities(
        (("The Bob  Ray!", "bob ray", "Ray", "Zed"), (1,)),
        (("New York City", "New York", "York"), (1, 2)),
    )
    assert score("record", examples, [0, 0]) == pytest.approx({"f1": (1 + 0.8) / 2, "em": 0.5, SCORE: (0.9 + 0.5) / 2})
    assert score("record", examples, [2, 2]) == pytest.approx(
        {"f1": (2 / 3 + 1) / 2, "em": 0.5, SCORE: (5 / 6 + 0.5) / 2}
    )
    assert score("record", examples, [3, 1])["f1"] == pytest.approx(0.5)
    expected = ((1 + 1 + 2 / 3 + 0) / 4 + (0.8 + 1 + 1) / 3) / 2
    assert chance("record", examples)["f1"] == pytest.approx(expected)


def _random(task: str, count: int, seed: int) -> tuple[list[Example], list[int]]:
    draw = random.Random(seed)
    classes = 3 if task in ("cb", "record") else 2
    examples = _classes([draw.randrange(classes) for _ in range(count)], classes, 4 if task == "multirc" else 0)
    return examples, [draw.randrange(classes) for _ in range(count)]


@pytest.mark.parametrize("task", list(shipped_tasks()))
def test_guesses_score_about_what_chance_says(task: str) -> None:
    examples, guesses = _random(task, 6000, 0)
    expected, found = chance(task, examples), score(task, examples, guesses)
    assert expected.keys() == found.keys() == {*shipped_tasks()[task].metrics, SCORE}
    assert all(abs(expected[name] - found[name]) < 0.03 for name in found)


@pytest.mark.parametrize("task", list(shipped_tasks()))
def test_an_interval_holds_the_score_and_is_repeatable(task: str) -> None:
    examples, guesses = _random(task, 200, 1)
    for metric, value in score(task, examples, guesses).items():
        low, high = interval(task, examples, guesses, metric, seed=3)
        assert (low, high) == interval(task, examples, guesses, metric, seed=3)
        assert 0 <= low < value < high <= 1
        wide = interval(task, examples, guesses, metric, confidence=0.99, seed=3)
        assert wide[0] <= low
        assert wide[1] >= high


def test_the_interval_of_accuracy_is_the_binomial_one() -> None:
    examples, guesses = _random("boolq", 1000, 2)
    value = score("boolq", examples, guesses)["accuracy"]
    low, high = interval("boolq", examples, guesses, "accuracy", resamples=4000)
    half = 1.96 * np.sqrt(value * (1 - value) / 1000)
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.004)


def test_whole_questions_are_drawn() -> None:
    """Equal answers of one question carry the information of one answer: the interval must be as wide."""
    golds = [0] * 400
    guesses = [int(at // 4 % 2) for at in range(400)]
    grouped = interval("multirc", _classes(golds, 2, 4), guesses, "f1a")
    alone = interval("multirc", _classes(golds, 2, 1), guesses, "f1a")
    assert grouped[1] - grouped[0] > 1.7 * (alone[1] - alone[0])


def test_an_interval_takes_well_under_a_second() -> None:
    examples, guesses = _random("boolq", 1000, 4)
    start = time.perf_counter()
    interval("boolq", examples, guesses, "accuracy", resamples=1000)
    assert time.perf_counter() - start < 0.5


def test_majority_always_says_the_commonest_class() -> None:
    assert majority("cb", _classes([1, 1, 2, 0], 3)) == pytest.approx(
        {"accuracy": 0.5, "f1_macro": 2 / 9, SCORE: 13 / 36}
    )
    assert majority("multirc", _classes([1, 1, 1, 0], 2, 2))["f1a"] == 0.0


def test_what_does_not_fit_is_refused() -> None:
    examples = _classes([0, 1], 2)
    with pytest.raises(DataError, match="1 predictions for 2 examples"):
        score("rte", examples, [0])
    with pytest.raises(DataError, match="prediction 2 for 1, which has candidates 0 to 1"):
        score("rte", examples, [0, 2])
    with pytest.raises(DataError, match="no examples to score"):
        chance("rte", [])
    with pytest.raises(DataError, match=r"unknown metric of task rte 'acuracy'; did you mean 'accuracy'"):
        interval("rte", examples, [0, 1], "acuracy")
