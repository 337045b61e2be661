"""Cached activations equal the large model's, and their size equals the estimate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfpet.errors import ConfigError
from gfpet.lm.families import find_family
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import batches
from gfpet.method.activation_cache import ActivationCache, Plan, plan_activations, recomputed, row_lengths
from tests.tiny import END, RANKING, VERBALIZER, encoded, tiny_gpt2

FAMILY = find_family("gpt2")
KEPT = torch.tensor([1, 4, 5, 11])
SIZES = {
    "tokens": {"decoder": 1000},
    "layers": {"decoder": 8},
    "large_width": 64,
    "bridge_width": 16,
    "dtype": torch.float32,
}
FULL = 1000 * 8 * 64 * 4


def plan(store: str, layers: tuple[int, ...], dtype: torch.dtype, tokens: int) -> Plan:
    return Plan(store, dtype, {"decoder": layers}, len(KEPT) if store == "projected" else 16, {"decoder": tokens})


@pytest.mark.parametrize("store", ["full", "projected"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.0), (torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
@pytest.mark.parametrize("layers", [(0, 1, 2, 3), (0, 2)])
def test_a_cache_gives_what_a_forward_pass_gives(
    store: str, dtype: torch.dtype, tolerance: float, layers: tuple[int, ...], tmp_path: Path
) -> None:
    large = FrozenModel(tiny_gpt2(width=16, layers=4))
    rows = encoded(RANKING + VERBALIZER)
    lengths = row_lengths(rows)
    wanted = plan(store, layers, dtype, sum(lengths["decoder"]))
    cache = ActivationCache(tmp_path / "a", wanted, lengths)
    cache.fill(rows, large, FAMILY, KEPT, batch_size=3, pad=END, device=torch.device("cpu"))
    assert (tmp_path / "a" / "decoder.bin").stat().st_size == wanted.bytes
    compared = 0
    for _, batch in batches(rows, size=2, pad=END, order=[4, 0, 7, 2]):
        exact = recomputed(large, FAMILY, wanted, KEPT)(batch)["decoder"]
        found = cache(batch)["decoder"]
        assert found.shape == (len(layers), *batch.texts["decoder"].ids.shape, wanted.width)
        real = batch.is_real["decoder"]
        # Other batches have other padding, which causes rounding differences even in float32.
        near = max(tolerance, 1e-5)
        torch.testing.assert_close(found[:, real].float(), exact[:, real], rtol=near, atol=near)
        assert not found[:, ~real].any()
        compared += int(real.sum())
    assert compared > 0


@pytest.mark.parametrize(
    ("budget", "store", "dtype", "layers"),
    [
        (FULL, "full", torch.float32, 8),
        (FULL - 1, "full", torch.float16, 8),
        (FULL // 2 - 1, "projected", torch.float32, 8),
        (FULL // 4 - 1, "projected", torch.float16, 8),
        (FULL // 8 - 1, "projected", torch.float16, 4),
        (FULL // 16 - 1, "projected", torch.float16, 2),
        (FULL // 32 - 1, "recompute", torch.float32, 8),
    ],
)
def test_auto_takes_the_first_plan_within_the_budget(budget: int, store: str, dtype: torch.dtype, layers: int) -> None:
    chosen = plan_activations("auto", budget=budget, **SIZES)
    assert (chosen.store, chosen.dtype, len(chosen.layers["decoder"])) == (store, dtype, layers)


@given(budget=st.integers(0, 2 * FULL))
def test_auto_never_passes_the_budget(budget: int) -> None:
    chosen = plan_activations("auto", budget=budget, **SIZES)
    assert chosen.bytes <= budget
    assert chosen.layers["decoder"][0] == 0


def test_a_plan_over_the_budget_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"bridge\.activations\.store=full needs .*budget_gb allows") as error:
        plan_activations("full", budget=FULL - 1, **SIZES)
    assert "recompute" in str(error.value)
