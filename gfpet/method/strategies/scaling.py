"""The strategy `scaling`: multiplies the plugged module's effect by one factor, chosen on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gfpet.method.strategies._context import StrategyContext
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result
from gfpet.pipeline import Phase


def build(context: StrategyContext) -> StrategyResult | None:
    """The plugged module at the best scale of `evaluate.scales` and 1; None without a module."""
    if context.plugged is None:
        return None
    plugged = context.plugged
    phase = Phase("infer", "scaling", context.tag)

    def scorer(scale: float) -> Scorer:
        return plugged.score if scale == 1.0 else context.large.plugged(phase, plugged.module.scaled(scale))

    return scale_module(scorer, with_one(context.options["scales"]), context.selection)


def scale_module(scorer: Callable[[float], Scorer], scales: Sequence[float], selection: DevSelection) -> StrategyResult:
    """The plugged module at its best scale on the held-out examples.

    Args:
        scorer: gives the large model with the module at a scale.
    """
    return select_best([strategy_result("scaling", scorer(scale), selection, scale=scale) for scale in scales])


def with_one(scales: Iterable[float]) -> list[float]:
    """The scales and 1, in rising order."""
    return sorted({1.0, *scales})
