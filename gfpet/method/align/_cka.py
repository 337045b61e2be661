"""Linear centred kernel alignment (CKA; Kornblith et al. 2019, arXiv:1905.00414) of two models on the same tokens.

CKA needs no map between the two widths. It is invariant to rotations and to isotropic scaling of either side. Plain
CKA tends to 1 as the width nears the number of tokens, even for unrelated sides; the debiased form uses the unbiased
estimate of HSIC (Song et al. 2012) instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.lm.activations import captured, residual_of
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Batch, backbone_of


class Side:
    """One model's activations `[tokens, d]`, centred, in float64, with the sums that every comparison needs."""

    def __init__(self, x: Float[Tensor, "tokens d"]) -> None:
        x = x.double()
        self.centred = x - x.mean(0)
        self.lengths = self.centred.square().sum(1)
        """Diagonal of the kernel `X Xᵀ`, `[tokens]`."""
        self.own = float((self.centred.T @ self.centred).square().sum())
        """`‖Xᵀ X‖²`."""


def cka_pair(x: Side, y: Side) -> tuple[float | None, float | None]:
    """`cka` and `cka_debiased` of two sides, computed together: they share the one costly product."""
    cross = float((y.centred.T @ x.centred).square().sum())
    norm = (x.own * y.own) ** 0.5
    biased = cross / norm if norm > 0 else None
    if len(x.lengths) < 4:
        return biased, None
    norms = (_hsic(x.own, x, x), _hsic(y.own, y, y))
    return biased, _hsic(cross, x, y) / (norms[0] * norms[1]) ** 0.5 if min(norms) > 0 else None


def cka(x: Float[Tensor, "tokens d1"], y: Float[Tensor, "tokens d2"]) -> float | None:
    """`‖Yᵀ X‖² / (‖Xᵀ X‖ ‖Yᵀ Y‖)` of the centred sides, in [0, 1]; None if a side is constant."""
    return cka_pair(Side(x), Side(y))[0]


def cka_debiased(x: Float[Tensor, "tokens d1"], y: Float[Tensor, "tokens d2"]) -> float | None:
    """CKA with the unbiased HSIC: about 0 for unrelated sides, and sometimes slightly negative.

    None if a side is constant, or with fewer than four tokens.
    """
    return cka_pair(Side(x), Side(y))[1]


def _hsic(cross: float, x: Side, y: Side) -> float:
    """n(n-3) times the unbiased HSIC of the kernels `K = X Xᵀ`, `L = Y Yᵀ` with zero diagonals, `K̃` and `L̃`.

    `tr(K̃L̃) + (1ᵀK̃1)(1ᵀL̃1)/((n-1)(n-2)) - 2/(n-2) 1ᵀK̃L̃1`. The sides are centred, so K's rows sum to 0 and
    `K̃1 = -diag(K)`. This avoids any matrix over pairs of tokens.
    """
    n = len(x.lengths)
    both = float((x.lengths * y.lengths).sum())
    apart = float(x.lengths.sum() * y.lengths.sum()) / ((n - 1) * (n - 2))
    return cross - both + apart - 2 / (n - 2) * both


def layer_likeness(
    small: LoadedModel, large: FrozenModel, batches: Iterable[Batch], *, tokens: int
) -> dict[str, Tensor]:
    """Linear CKA between the input of each block of S and the input of each block of L, on the same text.

    Returns `[n_S, n_L]` by stack.

    Args:
        tokens: tokens of each stack to compare; holds about `tokens · (n_S d_S + n_L d_L)` floats.
    """
    stacks = [stack.name for stack in small.family.stacks]
    spaces = [residual_of(stack) for stack in stacks]
    # By stack: inputs of S's blocks, inputs of L's blocks.
    seen: dict[str, tuple[list[Tensor], list[Tensor]]] = {stack: ([], []) for stack in stacks}
    count = dict.fromkeys(stacks, 0)
    with large.forward_only() as model:
        for batch in batches:
            if min(count.values()) >= tokens:
                break
            batch = batch.to(small.device)
            for side, each in enumerate((small.model, model)):
                with captured(each, small.family, spaces) as found:
                    backbone_of(each, small.family)(batch)
                for stack, real in batch.is_real.items():
                    inputs = [states[real][: tokens - count[stack]] for states in found[residual_of(stack)][:-1]]
                    # Layers of one model share their width, so they are stacked: `[layers, tokens, d]`.
                    seen[stack][side].append(torch.stack(inputs))
            count = {stack: sum(part.shape[1] for part in seen[stack][0]) for stack in stacks}
        likeness = {}
        for stack, sides in seen.items():
            ours, theirs = ([Side(layer) for layer in torch.cat(parts, dim=1)] for parts in sides)
            likeness[stack] = torch.tensor([[cka_pair(x, y)[0] or 0.0 for y in theirs] for x in ours])
    return likeness
