"""The strategy `auto`: the best of several strategies on the held-out examples, and a record of the choice."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gfpet.method.registry import AUTO
from gfpet.method.strategies._result import StrategyResult, select_best

_ALWAYS = "zero_shot"


@dataclass(frozen=True)
class SelectionRecord:
    """The choice of `auto`, and the held-out scores of all results."""

    selected: StrategyResult
    among: Sequence[StrategyResult]
    """The candidates."""
    every: Sequence[StrategyResult]
    """All measured results, candidates or not."""

    def as_dict(self) -> dict[str, Any]:
        """The content of `chosen.json`."""
        return {
            "strategy": self.selected.strategy,
            "among": [one.strategy for one in self.among],
            "chosen": dict(self.selected.chosen),
            "dev_score": self.selected.dev[0],
            "dev_scores": {one.strategy: one.dev[0] for one in self.every},
        }

    def text(self) -> str:
        """One line for the log, scores in points."""
        aside = [one for one in self.every if one not in self.among]
        return f"auto picks {self.selected.strategy}; held-out scores: {_scores(self.among)}" + (
            f"; left aside: {_scores(aside)}" if aside else ""
        )


def choose_among(every: Sequence[StrategyResult], names: Collection[str]) -> tuple[StrategyResult, SelectionRecord]:
    """The best of the named strategies and the plain large model.

    Args:
        every: all results; `zero_shot` is the plain large model.
        names: the strategies to choose among.
    """
    among = [one for one in every if one.strategy in (_ALWAYS, *names)]
    best = select_best(among)
    return StrategyResult(AUTO, best.score, best.dev, best.chosen), SelectionRecord(best, among, every)


def _scores(results: Sequence[StrategyResult]) -> str:
    return ", ".join(f"{one.strategy} {100 * one.dev[0]:.1f}" for one in results)
