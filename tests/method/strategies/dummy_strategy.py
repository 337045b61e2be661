"""A new strategy: this file and a registry entry (test_new_strategy.py) are all that it needs."""

from __future__ import annotations

from gfpet.method.strategies import StrategyContext, StrategyResult, strategy_result
from gfpet.pipeline import Phase


def build(context: StrategyContext) -> StrategyResult | None:
    """The plugged module with its sign changed; None for adapters."""
    if context.plugged is None or context.kind == "adapter":
        return None
    score = context.large.plugged(Phase("infer", "dummy", context.tag), context.plugged.module.scaled(-1.0))
    return strategy_result("dummy", score, context.selection)
