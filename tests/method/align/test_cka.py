"""CKA computed from features against its definition over pairs of tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import collate
from gfpet.method.align import cka, cka_debiased, layer_likeness
from tests.tiny import END, encoded, learnable, tiny_loaded

seeds = st.integers(0, 10_000)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dense_hsic(k: np.ndarray, l: np.ndarray, *, debiased: bool) -> float:  # noqa: E741
    """HSIC exactly as in Gretton et al. 2005 (biased) and Song et al. 2012, equation 5 (unbiased)."""
    n = len(k)
    if not debiased:
        centring = np.eye(n) - 1 / n
        return float(np.trace(k @ centring @ l @ centring)) / (n - 1) ** 2
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    ones = np.ones(n)
    total = np.trace(k @ l) + (ones @ k @ ones) * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float(total - 2 / (n - 2) * (ones @ k @ l @ ones)) / (n * (n - 3))


def dense_cka(x: Tensor, y: Tensor, *, debiased: bool) -> float:
    k, l = ((side.double() @ side.double().T).numpy() for side in (x, y))  # noqa: E741
    own = dense_hsic(k, k, debiased=debiased) * dense_hsic(l, l, debiased=debiased)
    return dense_hsic(k, l, debiased=debiased) / own**0.5


@settings(deadline=None)
@given(seed=seeds, n=st.integers(5, 30), d1=st.integers(2, 40), d2=st.integers(2, 40), shift=st.floats(-5, 5))
def test_both_equal_their_definitions(seed: int, n: int, d1: int, d2: int, shift: float) -> None:
    x = draw(seed, n, d1) + shift
    y = draw(seed + 1, n, d2) + x[:, :1]
    assert cka(x, y) == pytest.approx(dense_cka(x, y, debiased=False), rel=1e-6)
    assert cka_debiased(x, y) == pytest.approx(dense_cka(x, y, debiased=True), rel=1e-5, abs=1e-7)


@settings(deadline=None)
@given(seed=seeds, scale=st.floats(0.01, 100))
def test_a_rotation_a_scale_and_a_shift_change_nothing(seed: int, scale: float) -> None:
    x, rotation = draw(seed, 30, 6), torch.linalg.qr(draw(seed + 1, 6, 6)).Q
    for measure in (cka, cka_debiased):
        assert measure(x, x @ rotation * scale + 3) == pytest.approx(1.0, abs=1e-4)


def test_unrelated_sides_are_near_zero_only_without_the_bias() -> None:
    x, y = draw(0, 50, 200), draw(1, 50, 200)
    assert cka(x, y) > 0.7
    assert abs(cka_debiased(x, y) or 0) < 0.05


def test_a_side_that_never_varies_has_no_value() -> None:
    x = draw(0, 9, 3)
    assert cka(x, torch.ones(9, 2)) is None
    assert cka_debiased(torch.ones(9, 2), x) is None
    assert cka_debiased(x[:3], x[:3]) is None


def test_layers_are_most_like_themselves() -> None:
    loaded = tiny_loaded(16, 3)
    batches = [collate(encoded(learnable(4, seed)), pad=END) for seed in range(8)]
    found = layer_likeness(loaded, FrozenModel(loaded.model), batches, tokens=100)["decoder"]
    assert found.shape == (3, 3)
    assert torch.allclose(found.diagonal(), torch.ones(3), atol=1e-5)
    assert found.argmax(0).tolist() == [0, 1, 2]
