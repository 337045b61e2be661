"""Effects of modules: the change of the residual stream on the same text."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from gfpet.lm.activations import captured, residual_of
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import backbone_of, collate
from gfpet.method.align import cka
from gfpet.similarity import compare_effects, diagonal, effects, grid_of, mean_over, residuals
from tests.tiny import END, KIND_NAMES, encoded, learnable, tiny_gpt2, tiny_module

MODEL = tiny_gpt2(16, 3)
BATCHES = [collate(encoded([*learnable(3, seed), *learnable(2, 9)]), pad=END) for seed in range(8)]
TOKENS = sum(sum(batch.texts["decoder"].lengths) for batch in BATCHES)
RESIDUAL = residual_of("decoder")


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_an_effect_is_the_difference_after_each_block(kind: str) -> None:
    module = tiny_module(kind, MODEL)
    with torch.no_grad():
        plain = residuals(MODEL, GPT2, BATCHES, tokens=10_000)
        found = effects(MODEL, GPT2, module, BATCHES, plain, tokens=10_000)
        with captured(MODEL, GPT2, [RESIDUAL]) as before:
            backbone_of(MODEL, GPT2)(BATCHES[0])
        with inserted(MODEL, GPT2, module), captured(MODEL, GPT2, [RESIDUAL]) as after:
            backbone_of(MODEL, GPT2)(BATCHES[0])
    assert [effect.shape for effect in found] == [(TOKENS, 16)] * 3
    count = sum(BATCHES[0].texts["decoder"].lengths)
    for layer, effect in enumerate(found):
        plain_states, is_real = before[RESIDUAL][layer + 1], BATCHES[0].is_real["decoder"]
        expected = (after[RESIDUAL][layer + 1][:, -is_real.shape[1] :] - plain_states)[is_real]
        assert torch.equal(effect[:count], expected)
        assert effect.abs().max() > 0


@pytest.mark.parametrize("most", [1, 7, 50, TOKENS - 1, TOKENS])
def test_tokens_are_sampled_evenly_across_batches(most: int) -> None:
    with torch.no_grad():
        every = residuals(MODEL, GPT2, BATCHES, tokens=TOKENS)
        some = residuals(MODEL, GPT2, BATCHES, tokens=most)
    stride = -(-TOKENS // most)
    assert len(some[0]) <= most
    assert torch.equal(some[1], every[1][::stride])


def test_a_module_does_what_it_does() -> None:
    """The same module in the same model has similarity 1 by every measure, also after a rotation and a factor."""
    with torch.no_grad():
        plain = residuals(MODEL, GPT2, BATCHES, tokens=100)
        done = effects(MODEL, GPT2, tiny_module("lora", MODEL), BATCHES, plain, tokens=100)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q
    for other in (done, [3 * effect @ rotation for effect in done]):
        found = compare_effects(done, other, diagonal(3))
        for measure in ("cka", "cka_debiased", "rsa"):
            assert list(found[measure]) == diagonal(3)
            assert all(value == pytest.approx(1.0, abs=1e-3) for value in found[measure].values()), measure


def test_unrelated_effects_are_near_zero_by_the_measures_without_bias() -> None:
    first, second = (torch.randn(150, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    found = compare_effects([first], [second], [(0, 0)])
    assert abs(found["cka_debiased"][0, 0] or 1) < 0.05
    assert abs(found["rsa"][0, 0] or 1) < 0.05
    assert found["cka"][0, 0] == pytest.approx(cka(first, second))
    assert (found["cka"][0, 0] or 0) > 0.2


def test_rsa_is_spearmans_correlation_of_the_tokens_likeness() -> None:
    first, second = (torch.randn(40, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    second = second + first
    lines = []
    for side in (first, second):
        unit = torch.nn.functional.normalize(side.double(), dim=1)
        lines.append([float(unit[i] @ unit[j]) for i in range(40) for j in range(i + 1, 40)])
    found = compare_effects([first], [second], [(0, 0)])["rsa"][0, 0]
    assert found == pytest.approx(spearmanr(*lines).statistic, abs=1e-6)


def test_no_effect_has_no_value() -> None:
    nothing, some = torch.zeros(20, 4), torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    found = compare_effects([nothing], [some], [(0, 0)])
    assert {measure: values[0, 0] for measure, values in found.items()} == {
        "cka": None,
        "cka_debiased": None,
        "rsa": None,
    }


def test_a_heat_map_holds_what_is_known() -> None:
    assert grid_of({(0, 1): 0.5, (1, 0): math.nan}, 2, 2) == [[None, 0.5], [None, None]]
    assert grid_of({(0, 0): None}, 1, 1) is None
    assert mean_over([None, 1.0, math.nan, 0.5]) == 0.75
    assert mean_over([]) is None
