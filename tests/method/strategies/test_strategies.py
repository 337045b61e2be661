"""Strategies select on held-out examples only, and `auto` is never worse there than any of its candidates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfpet.lm.scoring import Predictions, Split
from gfpet.method.registry import STRATEGIES
from gfpet.method.strategies import (
    DevSelection,
    Scorer,
    StrategyResult,
    scale_blocks,
    scale_module,
    select_best,
    strategy_result,
    tune_by_proxy,
)
from gfpet.pipeline import COST_STAGES
from tests.tiny import tiny_task

DATA = tiny_task(12, 6)
SELECTION = DevSelection("rte", DATA.dev)


def predicting(split: Split, scores: list[list[float]]) -> Predictions:
    values = torch.tensor(scores)
    gold = torch.tensor([example.gold[0] for example in split.encoded])
    loss = float(torch.nn.functional.cross_entropy(values, gold))
    return Predictions(values.argmax(-1).tolist(), scores, loss)


def constant(scores: list[float]) -> Scorer:
    return lambda split: predicting(split, [scores] * len(split))


def right(margin: float) -> Scorer:
    """A scorer that is right everywhere by a margin; wrong if it is negative."""

    def score(split: Split) -> Predictions:
        return predicting(
            split, [[margin if i in example.gold else 0.0 for i in range(2)] for example in split.encoded]
        )

    return score


def test_changes_of_scores_are_added() -> None:
    found = tune_by_proxy(constant([1.0, 0.0]), right(2.0), constant([0.5, 0.0]), [3.0], SELECTION)
    predictions = found.score(DATA.eval)
    for example, scores in zip(DATA.eval.encoded, predictions.scores, strict=True):
        tuned = [2.0 if i in example.gold else 0.0 for i in range(2)]
        assert scores == pytest.approx([1.0 + 3.0 * (tuned[0] - 0.5), 3.0 * tuned[1]])
    again = predicting(DATA.eval, predictions.scores)
    assert (predictions.choices, predictions.loss) == (again.choices, pytest.approx(again.loss, rel=1e-3))


def test_the_strength_is_chosen() -> None:
    assert dict(
        tune_by_proxy(constant([5.0, 0.0]), right(1.0), constant([0.0, 0.0]), [1.0, 8.0], SELECTION).chosen
    ) == {"beta": 8.0}
    assert dict(tune_by_proxy(right(9.0), right(-1.0), constant([0.0, 0.0]), [0.25, 16.0], SELECTION).chosen) == {
        "beta": 0.25
    }


def test_the_scale_is_chosen() -> None:
    found = scale_module(lambda scale: right(1.0 if scale == 2.0 else -1.0), [0.5, 1.0, 2.0, 4.0], SELECTION)
    assert dict(found.chosen) == {"scale": 2.0}


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_a_strategy_applies_to(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.applies_to("") is (not strategy.uses_module)
    assert strategy.applies_to("lora")
    assert strategy.applies_to("adapter")
    assert strategy.applies_to("prefix") is (not strategy.scales_effect)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_entry_has_its_builder_and_its_place(name: str) -> None:
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert callable(strategy.load())
    assert set(strategy.route) <= set(COST_STAGES)
    assert strategy.route[-1] == "evaluate"
    assert all(phase.is_scoring for phase in strategy.phases)
    colours = [each.colour for each in STRATEGIES.values()]
    assert colours.count(strategy.colour) == 1


OPTIMUM = torch.tensor([3.0, 0.0, -1.0])


def near_the_optimum(factors: Tensor) -> Scorer:
    """A scorer whose margin is largest, and positive, at the optimum."""
    return right(4.0 - float((factors - OPTIMUM).square().sum()))


def found_in(steps: int, seed: int = 0, scorer: Callable[[Tensor], Scorer] = near_the_optimum) -> StrategyResult:
    return scale_blocks(scorer, 3, [DATA.train] * steps, learning_rate=0.1, epsilon=0.1, seed=seed, selection=SELECTION)


def test_factors_are_found_by_forward_passes() -> None:
    few, many = found_in(10), found_in(150)
    assert torch.tensor([*many.chosen.values()]) == pytest.approx(OPTIMUM, abs=0.5)
    assert near_the_optimum(torch.ones(3))(DATA.dev).loss > few.score(DATA.dev).loss > many.score(DATA.dev).loss
    assert found_in(10).chosen == few.chosen != found_in(10, seed=1).chosen


def test_factors_that_do_worse_on_held_out_examples_are_not_kept() -> None:
    def misled(factors: Tensor) -> Scorer:
        return lambda split: right(1.0 if split is DATA.train or torch.equal(factors, torch.ones(3)) else -1.0)(split)

    found = found_in(5, scorer=misled)
    assert found.chosen == {}
    assert found.dev[0] == 1.0


def test_of_equal_scores_the_lower_loss_and_then_the_first_wins() -> None:
    sure, unsure = (
        strategy_result(name, right(margin), SELECTION) for name, margin in (("sure", 5.0), ("unsure", 1.0))
    )
    assert select_best([unsure, sure]) is sure
    twin = strategy_result("twin", right(5.0), SELECTION)
    assert select_best([sure, twin]) is sure


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=2), min_size=1, max_size=6))
def test_the_best_is_never_below_any(all_scores: list[list[float]]) -> None:
    results = [strategy_result(str(number), constant(scores), SELECTION) for number, scores in enumerate(all_scores)]
    assert select_best(results).dev == max(one.dev for one in results)


def test_choices_do_not_look_at_the_evaluation_split() -> None:
    def dev_only(split: Split) -> Predictions:
        assert split is DATA.dev
        return right(1.0)(split)

    assert tune_by_proxy(dev_only, dev_only, dev_only, [0.5, 1.0], SELECTION).chosen
    assert scale_module(lambda _: dev_only, [0.5, 1.0], SELECTION).chosen
