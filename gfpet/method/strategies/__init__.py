"""Transfer strategies: ways to make the large model use what was learned outside of it.

A strategy is one file here with a builder, and one entry in `gfpet.method.registry`. The builder takes a
`StrategyContext` and returns a `StrategyResult`: a scorer, and its score on held-out training examples. A strategy
makes its choices on these examples, with forward passes only.
"""

from __future__ import annotations

from gfpet.method.strategies._auto import SelectionRecord, choose_among
from gfpet.method.strategies._context import PluggedModule, SmallScorers, StrategyContext
from gfpet.method.strategies._evaluate import Evaluated, evaluate_strategies, plug_randomly, score_small
from gfpet.method.strategies._evaluator import FrozenEvaluator, Insertion, Measure
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result
from gfpet.method.strategies.blockwise_scaling import sample_batches, scale_blocks
from gfpet.method.strategies.proxy_tuning import tune_by_proxy
from gfpet.method.strategies.scaling import scale_module

__all__ = [
    "DevSelection",
    "Evaluated",
    "FrozenEvaluator",
    "Insertion",
    "Measure",
    "PluggedModule",
    "Scorer",
    "SelectionRecord",
    "SmallScorers",
    "StrategyContext",
    "StrategyResult",
    "choose_among",
    "evaluate_strategies",
    "plug_randomly",
    "sample_batches",
    "scale_blocks",
    "scale_module",
    "score_small",
    "select_best",
    "strategy_result",
    "tune_by_proxy",
]
