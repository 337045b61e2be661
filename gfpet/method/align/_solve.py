"""Linear maps `y ≈ M x` from (co)variances alone.

`C_xx = E[x xᵀ]`, `C_yx = E[y xᵀ]`, centred or not. Everything is in float64: activations of language models have
coordinates that are a thousand times larger than others, and a normal equation squares that.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def ridge_map(c_xx: Float[Tensor, "x x"], c_yx: Float[Tensor, "y x"], *, penalty: float) -> Float[Tensor, "y x"]:
    """`M = C_yx (C_xx + λ I)⁻¹`, the ridge regression of y on x, by Cholesky.

    Args:
        penalty: λ as a part of the mean variance of x, `trace(C_xx) / d_x`.
    """
    mean_variance = float(c_xx.diagonal().mean())
    # Inputs that never vary carry nothing; any positive number then gives the zero map.
    ridge = penalty * mean_variance or 1.0
    eye = torch.eye(c_xx.shape[0], dtype=c_xx.dtype, device=c_xx.device)
    factor = torch.linalg.cholesky(c_xx + ridge * eye)
    return torch.cholesky_solve(c_yx.T, factor).T


def procrustes_map(c_xx: Float[Tensor, "x x"], c_yx: Float[Tensor, "y x"]) -> Float[Tensor, "y x"]:
    """A semi-orthogonal map times one scale (Schönemann 1966).

    From the SVD `C_yx = U Σ Vᵀ`, `R = U Vᵀ`; between equal widths that is the best rotation, between others the usual
    choice. The scale is the least-squares one for this R: `tr(Rᵀ C_yx) / tr(R C_xx Rᵀ)`.
    """
    u, s, vh = torch.linalg.svd(c_yx, full_matrices=False)
    rotation = u @ vh
    norm = ((rotation @ c_xx) * rotation).sum()
    scale = s.sum() / norm if norm > 0 else torch.zeros_like(norm)
    result: Tensor = scale * rotation
    return result
