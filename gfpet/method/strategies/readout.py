"""The strategy `readout`: the large model with the readout that stage `readout` trained (`gfpet.method.readout`)."""

from __future__ import annotations

import torch

from gfpet.method.readout import Readout, with_readout
from gfpet.method.strategies._context import StrategyContext
from gfpet.method.strategies._evaluator import Insertion
from gfpet.method.strategies._result import StrategyResult, strategy_result
from gfpet.pipeline import Phase, tag_of


def build(context: StrategyContext) -> StrategyResult | None:
    """The readout of the context's seed."""
    tag = tag_of("readout", context.seed)
    readout = Readout.load(context.outputs("readout") / f"{tag}.safetensors")

    def make(device: torch.device) -> Insertion:
        there = readout.to(device)
        return Insertion(tuple(there.tensors.values()), lambda model, family: with_readout(model, family, there))

    score = context.large.with_insertion(Phase("infer", tag=tag), make)
    return strategy_result("readout", score, context.selection)
