"""The algebra of the maps: linear relations are recovered, others are fitted by least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfpet.method.align import procrustes_map, ridge_map

seeds = st.integers(0, 10_000)
widths = st.integers(1, 9)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x.T @ x / len(x), y.T @ x / len(x)


@settings(deadline=None)
@given(seed=seeds, d_x=widths, d_y=widths)
def test_a_linear_map_is_recovered(seed: int, d_x: int, d_y: int) -> None:
    x, q = draw(seed, 60, d_x), draw(seed + 1, d_y, d_x)
    assert torch.allclose(ridge_map(*moments(x, x @ q.T), penalty=1e-12), q, atol=1e-6)


@settings(deadline=None)
@given(seed=seeds, d_x=widths, d_y=widths)
def test_ridge_without_penalty_is_least_squares(seed: int, d_x: int, d_y: int) -> None:
    x, y = draw(seed, 60, d_x), draw(seed + 1, 60, d_y)
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(ridge_map(*moments(x, y), penalty=1e-12).numpy(), expected, atol=1e-6)


@settings(deadline=None)
@given(seed=seeds, penalty=st.floats(1e-3, 10), factor=st.floats(0.1, 100))
def test_the_penalty_is_relative_and_is_that_of_augmented_rows(seed: int, penalty: float, factor: float) -> None:
    x, y = draw(seed, 40, 5) * factor, draw(seed + 1, 40, 3)
    size = penalty * float((x**2).mean()) * len(x)
    more_x = torch.cat([x, torch.eye(5, dtype=x.dtype) * size**0.5])
    more_y = torch.cat([y, torch.zeros(5, 3, dtype=y.dtype)])
    expected = torch.linalg.lstsq(more_x, more_y).solution.T
    found = ridge_map(*moments(x, y), penalty=penalty)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9 / factor)
    # Scaling x scales the map inversely.
    assert torch.allclose(found, ridge_map(*moments(x / factor, y), penalty=penalty) / factor, rtol=1e-6)


@settings(deadline=None)
@given(seed=seeds, d_x=widths, d_y=widths)
def test_procrustes_is_semi_orthogonal_with_the_best_scale(seed: int, d_x: int, d_y: int) -> None:
    x, y = draw(seed, 60, d_x), draw(seed + 1, 60, d_y)
    found = procrustes_map(*moments(x, y))
    gram = found @ found.T if d_y <= d_x else found.T @ found
    scale = gram.diagonal().mean()
    assert torch.allclose(gram, scale * torch.eye(len(gram), dtype=gram.dtype), atol=1e-9)
    error = [float((y - x @ (found * by).T).square().sum()) for by in (0.99, 1.0, 1.01)]
    assert error[1] <= min(error) + 1e-9


@settings(deadline=None)
@given(seed=seeds, d=widths, scale=st.floats(0.1, 10))
def test_procrustes_finds_a_scaled_rotation(seed: int, d: int, scale: float) -> None:
    x, rotation = draw(seed, 60, d), torch.linalg.qr(draw(seed + 1, d, d)).Q
    assert torch.allclose(procrustes_map(*moments(x, x @ (scale * rotation).T)), scale * rotation, atol=1e-8 * scale)


@pytest.mark.parametrize("d_y", [2, 4])
def test_inputs_that_never_vary_give_the_zero_map(d_y: int) -> None:
    x, y = torch.zeros(8, 3, dtype=torch.float64), draw(0, 8, d_y)
    assert torch.equal(ridge_map(*moments(x, y), penalty=0.1), torch.zeros(d_y, 3, dtype=x.dtype))
    assert torch.equal(procrustes_map(*moments(x, y)), torch.zeros(d_y, 3, dtype=x.dtype))
