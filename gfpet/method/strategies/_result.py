"""What a strategy makes, and the choice among several by held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gfpet.lm.scoring import Predictions, Split, task_score

Scorer = Callable[[Split], Predictions]
"""Scores the candidates of all examples of a split."""


@dataclass(frozen=True)
class DevSelection:
    """The held-out examples that choices are made on."""

    task: str
    dev: Split

    def score(self, predictions: Predictions) -> tuple[float, float]:
        """What is compared, the higher the better: the task's score, then minus the loss."""
        return task_score(self.task, self.dev.examples, predictions.choices), -predictions.loss


@dataclass(frozen=True)
class StrategyResult:
    """A strategy, ready to be used."""

    strategy: str
    score: Scorer
    dev: tuple[float, float]
    """Its value of `DevSelection.score`."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """What it chose on the held-out examples, by name."""


def strategy_result(strategy: str, score: Scorer, selection: DevSelection, **chosen: float) -> StrategyResult:
    """A strategy with its score on the held-out examples."""
    return StrategyResult(strategy, score, selection.score(score(selection.dev)), chosen)


def select_best(results: Sequence[StrategyResult]) -> StrategyResult:
    """The best on the held-out examples; the first of equals."""
    return max(results, key=lambda one: one.dev)
