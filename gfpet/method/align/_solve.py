"""Linear maps `y ≈ M x` from second moments alone.

`C_xx = E[x xᵀ]`, `C_yx = E[y xᵀ]`, centred or not. Everything is in float64: some coordinates of a language model's
activations are a thousand times larger than others, and the normal equations square that ratio.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def ridge_map(c_xx: Float[Tensor, "x x"], c_yx: Float[Tensor, "y x"], *, penalty: float) -> Float[Tensor, "y x"]:
    """`M = C_yx (C_xx + λ I)⁻¹`, the ridge regression of y on x, by Cholesky.

    Args:
        penalty: λ as a fraction of the mean variance of x, `trace(C_xx) / d_x`.
    """
    mean_variance = float(c_xx.diagonal().mean())
    # Without variance, any positive number gives the zero map.
    ridge = penalty * mean_variance or 1.0
    eye = torch.eye(c_xx.shape[0], dtype=c_xx.dtype, device=c_xx.device)
    factor = torch.linalg.cholesky(c_xx + ridge * eye)
    return torch.cholesky_solve(c_yx.T, factor).T


def procrustes_map(c_xx: Float[Tensor, "x x"], c_yx: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """A semi-orthogonal map R times a scale (Schönemann 1966).

    `R = U Vᵀ` from the SVD `C_yx = U Σ Vᵀ`: the best rotation between equal widths, the usual choice between others.
    The scale is the least-squares one for this R: `tr(Rᵀ C_yx) / tr(R C_xx Rᵀ)`.
    """
    u, s, vh = torch.linalg.svd(c_yx, full_matrices=False)
    rotation = u @ vh
    norm = ((rotation @ c_xx) * rotation).sum()
    scale = s.sum() / norm if norm > 0 else torch.zeros_like(norm)
    result: Tensor = scale * rotation
    return result
