"""The strategy `blockwise_scaling`: a factor for each block of the plugged module, found by zeroth-order steps.

SPSA (Spall 1992), which MeZO (Malladi et al. 2023, arXiv:2305.17333) takes for all weights: a step takes the loss on a
batch of training examples at two points, either side of the factors along a random direction. Few factors need few
directions, and nothing but forward passes of L. Adam evens out the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gfpet.lm.registry import KINDS
from gfpet.lm.scoring import Split
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result


def scale_blocks(
    kind: str,
    scorer: Callable[[Tensor], Scorer],
    blocks: int,
    steps: Sequence[Split],
    *,
    learning_rate: float,
    epsilon: float,
    seed: int,
    selection: DevSelection,
) -> StrategyResult | None:
    """The plugged module at the factors that were found, or at 1 where these do better on the held-out examples.

    None for a kind whose effect cannot be scaled.

    Args:
        scorer: the large model with the module's blocks times factors `[blocks]`.
        steps: the training examples of each step.
        epsilon: distance of the two points from the factors.
        seed: of the directions.
    """
    if not KINDS[kind].scalable:
        return None
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
    """A batch of training examples for each step, in an order that the seed draws."""
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    while len(order) < steps * size:
        order += torch.randperm(len(train), generator=generator).tolist()
    return [train.part(order[start : start + size]) for start in range(0, steps * size, size)]
