"""What a strategy makes, and the choice among several: the strategy `auto`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gfpet.scoring import Predictions
from gfpet.task_data import Split, task_score

Scorer = Callable[[Split], Predictions]
"""Scores the candidates of all examples of a split."""


@dataclass(frozen=True)
class Trial:
    """The held-out examples that choices are made on."""

    task: str
    dev: Split

    def score(self, said: Predictions) -> tuple[float, float]:
        """What is compared, the higher the better: the task's score, then minus the loss."""
        return task_score(self.task, self.dev.examples, said.choices), -said.loss


@dataclass(frozen=True)
class Contender:
    """A strategy, ready to be used."""

    strategy: str
    score: Scorer
    dev: tuple[float, float]
    """On the held-out examples, as `Trial.score` gives it."""
    chosen: Mapping[str, float] = field(default_factory=dict)
    """What it chose on them."""


def contender(strategy: str, score: Scorer, trial: Trial, **chosen: float) -> Contender:
    """A strategy with its score on the held-out examples."""
    return Contender(strategy, score, trial.score(score(trial.dev)), chosen)


def best(contenders: Sequence[Contender]) -> Contender:
    """The one that does best on the held-out examples; the first of equals."""
    return max(contenders, key=lambda one: one.dev)
