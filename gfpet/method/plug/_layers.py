"""The layer assignment: each block of L gets its module from the assigned block of S (docs/method.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from gfpet.errors import ConfigError
from gfpet.lm.families import EMBEDDINGS, stack_of

LayerAssignmentName = Literal["stack", "interpolate", "depth", "cka"]
LayerPairs = tuple[tuple[int, int], ...]
"""Pairs (block of the large model, block of the small model), sorted by block of the large model."""
LayerAssignment = Mapping[str, LayerPairs]
"""By stack: blocks of an encoder are never paired with blocks of a decoder."""


def layer_assignment(
    name: LayerAssignmentName,
    small: Mapping[str, int],
    large: Mapping[str, int],
    likeness: Mapping[str, Tensor] | None = None,
) -> LayerAssignment:
    """`layer_pairs` of each stack, from the depths of both models (`gfpet.lm.families.Family.depths_of`).

    Args:
        likeness: as in `layer_pairs`, by stack; only for `cka`.

    Raises:
        ConfigError: a stack is deeper in the small model, or `cka` has no likeness.
    """
    return {
        stack: layer_pairs(name, depth, large[stack], likeness[stack] if likeness else None)
        for stack, depth in small.items()
    }


def with_embeddings(pairs: LayerAssignment, spaces: Iterable[str]) -> LayerAssignment:
    """The layer assignment, plus a pair for the two models' embeddings if one of `spaces` belongs to them.

    Args:
        spaces: names of spaces, stacks or tensors.
    """
    return {**pairs, EMBEDDINGS: ((0, 0),)} if EMBEDDINGS in map(stack_of, spaces) else pairs


def layer_pairs(name: LayerAssignmentName, small: int, large: int, likeness: Tensor | None = None) -> LayerPairs:
    """Assign blocks of a stack of depth `small` (n_S) to blocks l of a stack of depth `large` (n_L).

    `stack`: l mod n_S. `interpolate`: ⌊l · n_S / n_L⌋. `depth`: only the n_S blocks of L at the same relative depth.
    `cka`: for each l the most similar block of S.

    Args:
        likeness: `[n_S, n_L]`, linear CKA of the residual streams; only for `cka`.

    Raises:
        ConfigError: the small model is deeper, or `cka` has no likeness.
    """
    if small > large:
        raise ConfigError(
            f"the small model has {small} blocks and the large one {large}: a module is carried to a model at least "
            "as deep. Swap models.<family>.small and models.<family>.large, or take a deeper large model."
        )
    match name:
        case "stack":
            return tuple((layer, layer % small) for layer in range(large))
        case "interpolate":
            return tuple((layer, layer * small // large) for layer in range(large))
        case "depth":
            return tuple(((2 * layer + 1) * large // (2 * small), layer) for layer in range(small))
        case "cka":
            if likeness is None:
                raise ConfigError(
                    "the layer assignment 'cka' needs the similarity of the two models' layers (stage align)."
                )
            return tuple((layer, int(likeness[:, layer].argmax())) for layer in range(large))
