"""The strategy `blockwise_scaling`: one factor per block of the plugged module, fitted by zeroth-order optimisation.

The optimiser is SPSA (Spall 1992), which MeZO (Malladi et al. 2023, arXiv:2305.17333) applies to all weights. Each step
draws a random direction and measures the loss on a batch of training examples at `factors ± epsilon · direction`. There
are few factors, so few steps suffice, with forward passes of L only. Adam smooths the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gfpet.lm.modules import scaled_by_block
from gfpet.lm.scoring import Split
from gfpet.method.strategies._context import StrategyContext
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result
from gfpet.pipeline import Phase


def build(context: StrategyContext) -> StrategyResult | None:
    """The plugged module scaled by fitted factors (section `evaluate.blockwise_scaling`); None without a module."""
    if context.plugged is None:
        return None
    module, options = context.plugged.module, context.options["blockwise_scaling"]
    phase = Phase("infer", "blockwise_scaling", context.tag)
    return scale_blocks(
        lambda factors: context.large.plugged(phase, scaled_by_block(module, factors)),
        sum(map(len, module.layers.values())),
        sample_batches(context.train, options["steps"], options["batch_size"], context.seed),
        learning_rate=options["learning_rate"],
        epsilon=options["epsilon"],
        seed=context.seed,
        selection=context.selection,
    )


def scale_blocks(
    scorer: Callable[[Tensor], Scorer],
    blocks: int,
    steps: Sequence[Split],
    *,
    learning_rate: float,
    epsilon: float,
    seed: int,
    selection: DevSelection,
) -> StrategyResult:
    """The plugged module at the fitted factors, or at 1 if 1 is better on the held-out examples.

    Args:
        scorer: gives the large model with the module's blocks times factors `[blocks]`.
        steps: the training examples of each step.
        epsilon: distance of the two points from the factors, per factor.
        seed: seed of the random directions.
    """
    factors = torch.ones(blocks)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([factors], lr=learning_rate)
    for batch in steps:
        direction = 2.0 * torch.randint(0, 2, (blocks,), generator=generator) - 1.0
        above, below = (scorer(factors + sign * epsilon * direction)(batch).loss for sign in (1, -1))
        factors.grad = (above - below) / (2 * epsilon) * direction
        optimizer.step()
    start = strategy_result("blockwise_scaling", scorer(torch.ones(blocks)), selection)
    found = {f"block_{number}": value for number, value in enumerate(factors.tolist())}
    return select_best([start, strategy_result("blockwise_scaling", scorer(factors), selection, **found)])


def sample_batches(train: Split, steps: int, size: int, seed: int) -> list[Split]:
    """One batch of training examples per step, in an order drawn with the seed."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < steps * size:
        order += torch.randperm(len(train), generator=generator).tolist()
    return [train.part(order[start : start + size]) for start in range(0, steps * size, size)]
