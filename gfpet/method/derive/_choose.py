"""Which blocks of the large model stay: those that change the residual stream most, measured forward only.

A block whose output is nearly its input can go: block influence (Men et al. 2024, ShortGPT, arXiv:2403.03853), here by
the angle between the two (Gromov et al. 2024, arXiv:2403.17887) or by linear CKA (as in CRaSh, Zhang et al. 2023,
arXiv:2310.15477). `even` is layer dropping without a look (Xiao et al. 2023, Offsite-Tuning, arXiv:2302.04870).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from gfpet.errors import ConfigError
from gfpet.lm.activations import captured, residual_of
from gfpet.lm.families import Family
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import Batch, backbone_of
from gfpet.memory import Step, no_step
from gfpet.method.align import cka

Choice = Literal["angular", "cka", "even"]

READ_AT_ONCE = 16
"""Texts of a batch."""
LOOKED_AT = 4000
"""Tokens that decide which blocks go."""


def block_changes(
    large: FrozenModel,
    family: Family,
    batches: Iterable[Batch],
    choice: Literal["angular", "cka"],
    *,
    tokens: int,
    step: Step = no_step,
) -> dict[str, Float[Tensor, " n"]]:
    """How far each block's output is from its input, by stack: an angle as a part of π, or 1 - CKA.

    Args:
        batches: in an order in which the first ones stand for all.
        tokens: how many of each stack to look at; for `cka` the activations of all blocks there are held together.
    """
    stacks = [stack.name for stack in family.stacks]
    sums: dict[str, Tensor] = {}
    held: dict[str, list[list[Tensor]]] = {stack: [] for stack in stacks}
    seen = dict.fromkeys(stacks, 0)
    with large.forward_only() as model:
        for batch in batches:
            if min(seen.values()) >= tokens:
                break
            with step(batch.size), captured(model, family, map(residual_of, stacks)) as found:
                backbone_of(model, family)(batch)
                for stack in stacks:
                    real = batch.is_real[stack]
                    states = [each[real][: tokens - seen[stack]].float() for each in found[residual_of(stack)]]
                    seen[stack] += len(states[0])
                    if choice == "cka":
                        held[stack].append(states)
                        continue
                    angles = [_angles(x, y).sum().double() for x, y in pairwise(states)]
                    sums[stack] = sums.get(stack, 0) + torch.stack(angles).cpu()
        if choice == "angular":
            return {stack: (total / seen[stack]).float() for stack, total in sums.items()}
        changes = {}
        for stack, parts in held.items():
            streams = [torch.cat(layer) for layer in zip(*parts, strict=True)]
            likeness = [cka(x, y) for x, y in pairwise(streams)]
            changes[stack] = torch.tensor([0.0 if each is None else 1 - each for each in likeness])
    return changes


def _angles(x: Float[Tensor, "tokens d"], y: Float[Tensor, "tokens d"]) -> Float[Tensor, " tokens"]:
    # A cosine that rounding lifts above 1 has no angle.
    return torch.arccos(cosine_similarity(x, y, dim=-1).clamp(-1, 1)) / torch.pi


def count_of(layers: float, depth: int) -> int:
    """How many blocks of a stack stay.

    Args:
        layers: below 1 a part of the depth, from 1 on a number.

    Raises:
        ConfigError: more than there are.
    """
    count = max(1, round(layers * depth)) if layers < 1 else int(layers)
    if count > depth:
        raise ConfigError(f"derive.layers is {count}, but the large model has {depth} blocks to keep any of.")
    return count


def choose_blocks(changes: Mapping[str, Float[Tensor, " n"]], layers: float) -> dict[str, tuple[int, ...]]:
    """The blocks that change most, by stack, in their order; of equals the first.

    The first block always stays: it makes the stream out of embeddings, and in some families holds what the others use
    (T5's position bias).
    """
    kept = {}
    for stack, change in changes.items():
        rest = sorted(range(1, len(change)), key=lambda block: -float(change[block]))
        kept[stack] = tuple(sorted([0, *rest[: count_of(layers, len(change)) - 1]]))
    return kept


def evenly(depths: Mapping[str, int], layers: float) -> dict[str, tuple[int, ...]]:
    """Blocks spread evenly over each stack, its first and its last among them."""
    kept = {}
    for stack, depth in depths.items():
        count = count_of(layers, depth)
        steps = max(1, count - 1)
        kept[stack] = tuple((2 * number * (depth - 1) + steps) // (2 * steps) for number in range(count))
    return kept
