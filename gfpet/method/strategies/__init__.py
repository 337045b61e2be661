"""Transfer strategies: ways of using, in the large model, what was learned outside of it.

A strategy is a function in a file of its own that makes a `StrategyResult`: how examples are scored with it, and how well it
does on held-out training examples. Whatever a strategy chooses it chooses by these, with forward passes only.
"""

from __future__ import annotations

from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result
from gfpet.method.strategies.blockwise_scaling import sample_batches, scale_blocks
from gfpet.method.strategies.proxy_tuning import tune_by_proxy
from gfpet.method.strategies.scaling import scale_module

__all__ = [
    "DevSelection",
    "Scorer",
    "StrategyResult",
    "sample_batches",
    "scale_blocks",
    "scale_module",
    "select_best",
    "strategy_result",
    "tune_by_proxy",
]
