"""The result of a strategy, and the choice among results on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gfpet.lm.scoring import Predictions, Split, task_score

Scorer = Callable[[Split], Predictions]
"""Scores the candidates of all examples of a split."""


@dataclass(frozen=True)
class DevSelection:
    """The held-out examples for all choices."""

    task: str
    dev: Split

    def score(self, predictions: Predictions) -> tuple[float, float]:
        """The selection criterion, higher is better: the task's score, then minus the loss."""
        return task_score(self.task, self.dev.examples, predictions.choices), -predictions.loss


@dataclass(frozen=True)
class StrategyResult:
    """A strategy, ready to score examples."""

    strategy: str
    score: Scorer
    dev: tuple[float, float]
    """Its `DevSelection.score`."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """Values chosen on the held-out examples, by name."""


def strategy_result(strategy: str, score: Scorer, selection: DevSelection, **chosen: float) -> StrategyResult:
    """Compute a strategy's score on the held-out examples."""
    return StrategyResult(strategy, score, selection.score(score(selection.dev)), chosen)


def select_best(results: Sequence[StrategyResult]) -> StrategyResult:
    """The best result on the held-out examples; ties go to the first."""
    return max(results, key=lambda one: one.dev)
