"""Strategies choose by held-out examples alone, and `auto` is never worse on them than what it chose from."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfpet.scoring import Predictions
from gfpet.task_data import Split
from gfpet.transfer import Scorer, Trial, arithmetic, best, contender, scaled
from tests.tiny import tiny_task

DATA = tiny_task(12, 6)
TRIAL = Trial("rte", DATA.dev)


def saying(split: Split, scores: list[list[float]]) -> Predictions:
    values = torch.tensor(scores)
    gold = torch.tensor([example.gold[0] for example in split.encoded])
    loss = float(torch.nn.functional.cross_entropy(values, gold))
    return Predictions(values.argmax(-1).tolist(), scores, loss)


def constant(scores: list[float]) -> Scorer:
    return lambda split: saying(split, [scores] * len(split))


def right(margin: float) -> Scorer:
    """Right everywhere by a margin; wrong for a negative one."""

    def score(split: Split) -> Predictions:
        return saying(split, [[margin if i in example.gold else 0.0 for i in range(2)] for example in split.encoded])

    return score


def test_logits_are_added() -> None:
    found = arithmetic(constant([1.0, 0.0]), right(2.0), constant([0.5, 0.0]), [3.0], TRIAL)
    said = found.score(DATA.eval)
    for example, scores in zip(DATA.eval.encoded, said.scores, strict=True):
        tuned = [2.0 if i in example.gold else 0.0 for i in range(2)]
        assert scores == pytest.approx([1.0 + 3.0 * (tuned[0] - 0.5), 3.0 * tuned[1]])
    again = saying(DATA.eval, said.scores)
    assert (said.choices, said.loss) == (again.choices, pytest.approx(again.loss, rel=1e-3))


def test_the_strength_is_chosen() -> None:
    assert dict(arithmetic(constant([5.0, 0.0]), right(1.0), constant([0.0, 0.0]), [1.0, 8.0], TRIAL).chosen) == {
        "beta": 8.0
    }
    assert dict(arithmetic(right(9.0), right(-1.0), constant([0.0, 0.0]), [0.25, 16.0], TRIAL).chosen) == {"beta": 0.25}


def test_the_scale_is_chosen() -> None:
    found = scaled("lora", lambda scale: right(1.0 if scale == 2.0 else -1.0), [0.5, 1.0, 2.0, 4.0], TRIAL)
    assert found is not None
    assert dict(found.chosen) == {"scale": 2.0}
    assert scaled("prefix", lambda _: right(1.0), [1.0], TRIAL) is None


def test_of_equal_scores_the_lower_loss_and_then_the_first_wins() -> None:
    sure, unsure = (contender(name, right(margin), TRIAL) for name, margin in (("sure", 5.0), ("unsure", 1.0)))
    assert best([unsure, sure]) is sure
    twin = contender("twin", right(5.0), TRIAL)
    assert best([sure, twin]) is sure


@given(st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_best_is_never_below_any(all_scores: list[list[float]]) -> None:
    contenders = [contender(str(number), constant(scores), TRIAL) for number, scores in enumerate(all_scores)]
    assert best(contenders).dev == max(one.dev for one in contenders)


def test_choices_do_not_look_at_the_evaluation_split() -> None:
    def dev_only(split: Split) -> Predictions:
        assert split is DATA.dev
        return right(1.0)(split)

    assert arithmetic(dev_only, dev_only, dev_only, [0.5, 1.0], TRIAL).chosen
    assert scaled("adapter", lambda _: dev_only, [0.5, 1.0], TRIAL)
