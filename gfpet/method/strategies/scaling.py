"""The strategy `scaling`: one factor on the plugged module's effect, chosen on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gfpet.lm.registry import KINDS
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result


def scale_module(
    kind: str, scorer: Callable[[float], Scorer], scales: Sequence[float], selection: DevSelection
) -> StrategyResult | None:
    """The plugged module at its best scale; None for a kind whose effect cannot be scaled.

    Args:
        scorer: the large model with the module at a scale.
    """
    if not KINDS[kind].scalable:
        return None
    return select_best([strategy_result("scaling", scorer(scale), selection, scale=scale) for scale in scales])
