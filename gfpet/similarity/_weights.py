"""Similarity of modules' weights: their updates `ΔW = U V` after plugging, per layer and target module.

U and V are unique only up to an invertible r × r matrix, so their product and their spaces are compared. Each kind
defines U and V (`gfpet.lm.modules.Kind.updates`): for LoRA they are B and A.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.lm.modules import KINDS, PetModule, Update, by_block
from gfpet.similarity._grid import Block, mean_over


def factors(module: PetModule) -> dict[Block, Mapping[str, Update]]:
    """The factors of a module's updates, by block and target module; float64, without `scale`."""
    found: dict[Block, Mapping[str, Update]] = {}
    for stack, layer, tensors in by_block(KINDS[module.kind].folded(module)):
        exact = {name: tensor.detach().double() for name, tensor in tensors.items()}
        found[stack, layer] = KINDS[module.kind].updates(exact)
    return found


def update_cosine(
    u1: Float[Tensor, "out r1"], v1: Float[Tensor, "r1 in"], u2: Float[Tensor, "out r2"], v2: Float[Tensor, "r2 in"]
) -> float | None:
    """Cosine of `U₁V₁` and `U₂V₂` as vectors; None if one is zero.

    `⟨U₁V₁, U₂V₂⟩ = tr((U₂ᵀU₁)(V₁V₂ᵀ))`, so only r × r matrices are formed, never one of `d_out × d_in`.
    """
    inner = float(((u1.T @ u2) * (v1 @ v2.T)).sum())
    own = [float(((u.T @ u) * (v @ v.T)).sum()) for u, v in ((u1, v1), (u2, v2))]
    return inner / (own[0] * own[1]) ** 0.5 if min(own) > 0 else None


def overlap(x: Float[Tensor, "d r1"], y: Float[Tensor, "d r2"]) -> float | None:
    """Mean squared cosine of the principal angles between two column spaces, in [0, 1]; None if one is zero.

    It is 1 if the smaller space lies within the other, and about r / d for two random spaces of r dimensions in d.
    """
    first, second = _basis(x), _basis(y)
    smaller = min(first.shape[1], second.shape[1])
    return float((first.T @ second).square().sum()) / smaller if smaller else None


def _basis(x: Tensor) -> Tensor:
    """An orthonormal basis of a column space, `[d, rank]`."""
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    basis: Tensor = u[:, s > s[:1] * max(x.shape) * torch.finfo(x.dtype).eps]
    return basis


def compare_weights(ours: PetModule, theirs: PetModule) -> dict[str, dict[Block, float | None]]:
    """Compare two modules in one model's spaces, by measure and block; means over their common target modules.

    `cosine`: cosine of the ΔW. `subspace`: mean of the overlaps of the column spaces (written) and of the row spaces
    (read). Covers only blocks that both modules have.

    Args:
        ours: e.g. a module of the small model after `gfpet.method.plug.plugged`.
    """
    first, second = factors(ours), factors(theirs)
    found: dict[str, dict[Block, float | None]] = {"cosine": {}, "subspace": {}}
    for block in sorted(first.keys() & second.keys()):
        target_modules = sorted(first[block].keys() & second[block].keys())
        cosines, overlaps = [], []
        for target in target_modules:
            (u1, v1), (u2, v2) = first[block][target], second[block][target]
            cosines.append(update_cosine(u1, v1, u2, v2))
            overlaps.append(mean_over([overlap(u1, u2), overlap(v1.T, v2.T)]))
        found["cosine"][block], found["subspace"][block] = mean_over(cosines), mean_over(overlaps)
    return found
