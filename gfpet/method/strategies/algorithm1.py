"""The strategy `algorithm1`: the large model with the plugged module, as in the paper."""

from __future__ import annotations

from gfpet.method.strategies._context import StrategyContext
from gfpet.method.strategies._result import StrategyResult, strategy_result


def build(context: StrategyContext) -> StrategyResult | None:
    """The plugged module, unchanged; None without a module."""
    if context.plugged is None:
        return None
    return strategy_result("algorithm1", context.plugged.score, context.selection)
