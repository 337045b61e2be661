"""Chooses the blocks of the large model to keep: those that change the residual stream most. Forward passes only.

A block whose output is nearly its input can be removed: block influence (Men et al. 2024, ShortGPT, arXiv:2403.03853).
The measure is the angle between the two (Gromov et al. 2024, arXiv:2403.17887) or linear CKA (as in CRaSh, Zhang et al.
2023, arXiv:2310.15477). `even` drops layers without measuring (Xiao et al. 2023, Offsite-Tuning, arXiv:2302.04870).
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
"""Texts per batch."""
LOOKED_AT = 4000
"""Tokens of each stack used for the choice."""


def block_changes(
    large: FrozenModel,
    family: Family,
    batches: Iterable[Batch],
    choice: Literal["angular", "cka"],
    *,
    tokens: int,
    step: Step = no_step,
) -> dict[str, Float[Tensor, " n"]]:
    """The distance of each block's output from its input, by stack: the angle divided by π, or 1 - CKA.

    Args:
        batches: in mixed order, so that the first ones are representative.
        tokens: tokens of each stack to use; for `cka` their activations at all blocks are held together.
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
    # Rounding can lift a cosine above 1, which has no angle.
    return torch.arccos(cosine_similarity(x, y, dim=-1).clamp(-1, 1)) / torch.pi


def count_of(layers: float, depth: int) -> int:
    """The number of blocks of a stack to keep.

    Args:
        layers: below 1, a fraction of the depth; from 1 on, the number itself.

    Raises:
        ConfigError: the number exceeds the depth.
    """
    count = max(1, round(layers * depth)) if layers < 1 else int(layers)
    if count > depth:
        raise ConfigError(f"derive.layers is {count}, but the large model has {depth} blocks to keep any of.")
    return count


def choose_blocks(changes: Mapping[str, Float[Tensor, " n"]], layers: float) -> dict[str, tuple[int, ...]]:
    """The blocks with the largest changes, by stack, in order; ties go to the first.

    Block 0 always stays: it turns embeddings into the stream, and in some families it holds weights that the others use
    (T5's position bias).
    """
    kept = {}
    for stack, change in changes.items():
        rest = sorted(range(1, len(change)), key=lambda block: -float(change[block]))
        kept[stack] = tuple(sorted([0, *rest[: count_of(layers, len(change)) - 1]]))
    return kept


def evenly(depths: Mapping[str, int], layers: float) -> dict[str, tuple[int, ...]]:
    """Blocks spaced evenly over each stack, from the first to the last; one block alone is the first."""
    kept = {}
    for stack, depth in depths.items():
        count = count_of(layers, depth)
        steps = max(1, count - 1)
        kept[stack] = tuple((2 * number * (depth - 1) + steps) // (2 * steps) for number in range(count))
    return kept
