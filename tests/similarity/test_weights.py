"""Similarity of weights: traces of factors against dense matrices, principal angles against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from torch import Tensor

from gfpet.lm import registry
from gfpet.lm.modules import PetModule
from gfpet.method.plug import Projection, layer_assignment, plugged, random_like, spaces_of
from gfpet.similarity import compare_weights, factors, overlap, untrained_like, update_cosine
from tests.tiny import KIND_NAMES, tiny_loaded, tiny_module, tiny_task

seeds = st.integers(0, 10_000)
ranks = st.integers(1, 4)
LARGE = tiny_loaded(24, 4, seed=1)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None)
@given(seed=seeds, r1=ranks, r2=ranks, d_out=st.integers(1, 12), d_in=st.integers(1, 12))
def test_cosine_through_traces_is_that_of_the_dense_updates(seed: int, r1: int, r2: int, d_out: int, d_in: int) -> None:
    u1, v1, u2, v2 = (
        draw(seed, d_out, r1),
        draw(seed + 1, r1, d_in),
        draw(seed + 2, d_out, r2),
        draw(seed + 3, r2, d_in),
    )
    first, second = (u1 @ v1).flatten(), (u2 @ v2).flatten()
    expected = float(first @ second / (first.norm() * second.norm()))
    assert update_cosine(u1, v1, u2, v2) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(seed=seeds, r=ranks)
def test_the_same_update_by_other_factors_is_the_same(seed: int, r: int) -> None:
    u, v, mix = draw(seed, 9, r), draw(seed + 1, r, 7), draw(seed + 2, r, r) + 5 * torch.eye(r).double()
    assert update_cosine(u, v, u @ mix, mix.inverse() @ v) == pytest.approx(1.0)
    assert update_cosine(u, v, -u, v) == pytest.approx(-1.0)
    assert overlap(u, u @ mix) == pytest.approx(1.0)


@settings(deadline=None)
@given(seed=seeds, r1=ranks, r2=ranks)
def test_overlap_is_the_mean_squared_cosine_of_scipys_angles(seed: int, r1: int, r2: int) -> None:
    x, y = draw(seed, 9, r1), draw(seed + 1, 9, r2)
    expected = float((np.cos(subspace_angles(x.numpy(), y.numpy())) ** 2).mean())
    assert overlap(x, y) == pytest.approx(expected, abs=1e-9)


def test_overlap_knows_the_rank() -> None:
    x = draw(0, 9, 2)
    assert overlap(torch.cat([x, x], dim=1), x) == pytest.approx(1.0)
    assert overlap(torch.eye(6)[:, :2].double(), torch.eye(6)[:, 2:4].double()) == 0.0
    assert overlap(x, torch.zeros(9, 2, dtype=x.dtype)) is None


def test_nothing_has_no_direction() -> None:
    u, v = draw(0, 5, 2), draw(1, 2, 5)
    assert update_cosine(u * 0, v, u, v) is None


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_module_is_just_like_itself_and_not_like_another(kind: str) -> None:
    module, other = (tiny_module(kind, LARGE.model, seed=seed) for seed in (5, 6))
    same, different = compare_weights(module, module), compare_weights(module, other)
    for measure in ("cosine", "subspace"):
        assert list(same[measure]) == [(stack, layer) for stack, layers in module.layers.items() for layer in layers]
        assert all(value == pytest.approx(1.0) for value in same[measure].values())
        assert max(abs(value or 0.0) for value in different[measure].values()) < 0.6


def test_a_prefix_has_no_order() -> None:
    module = tiny_module("prefix", LARGE.model)
    turned = module.with_tensors({name: tensor.flip(1) for name, tensor in module.tensors.items()})
    assert all(value == pytest.approx(1.0) for value in compare_weights(module, turned)["cosine"].values())


def test_only_common_blocks_are_compared() -> None:
    module = tiny_module("lora", LARGE.model)
    some = PetModule(
        "lora", "gpt2", {"decoder": (1, 3)}, {name: tensor[[1, 3]] for name, tensor in module.tensors.items()}
    )
    found = compare_weights(some, module)
    assert list(found["cosine"]) == [("decoder", 1), ("decoder", 3)]
    assert all(value == pytest.approx(1.0) for value in found["cosine"].values())


def test_factors_give_the_update() -> None:
    module = tiny_module("lora", LARGE.model)
    u, v = factors(module)["decoder", 2]["mlp.up"]
    assert torch.equal(u @ v, module.tensors["mlp.up.B"][2].double() @ module.tensors["mlp.up.A"][2].double())


def test_a_random_map_takes_the_likeness_away() -> None:
    """S is a rotation of L: the fitted map recovers the module, a random one does not."""
    module = tiny_module("lora", LARGE.model)
    pairs, reads, writes = layer_assignment("stack", {"decoder": 4}, {"decoder": 4}), *spaces_of(module)
    widths = {"in": 1, "out": 1}
    rotations = {}
    for space in sorted(reads | writes):
        width = next(
            tensor.shape[2 if name.endswith("A") else 1]
            for name, tensor in module.tensors.items()
            if name.rsplit(".", 1)[0] == space.rsplit(".", 1)[0] and name.endswith("A" if space.endswith("in") else "B")
        )
        rotations[space] = torch.linalg.qr(draw(widths["in"], width, width)).Q.float()[None]
    into_small = Projection(
        {space: rotations[space].mT for space in reads}, {space: rotations[space] for space in writes}
    )
    small = plugged(module, into_small, pairs, divide_by_copies=False)
    maps = Projection({space: rotations[space] for space in reads}, {space: rotations[space].mT for space in writes})
    fitted = compare_weights(plugged(small, maps, pairs, divide_by_copies=False), module)
    random = random_like(maps, torch.Generator().manual_seed(0))
    null = compare_weights(plugged(small, random, pairs, divide_by_copies=False), module)
    assert all(value == pytest.approx(1.0, abs=1e-4) for value in fitted["cosine"].values())
    assert max(abs(value or 0.0) for value in null["cosine"].values()) < 0.3


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_an_untrained_module_has_the_shape_of_the_trained_one(kind: str) -> None:
    module, data = tiny_module(kind, LARGE.model), tiny_task()
    fresh, again, other = (untrained_like(module, LARGE, data, sample=sample) for sample in (0, 0, 1))
    assert {n: t.shape for n, t in fresh.tensors.items()} == {n: t.shape for n, t in module.tensors.items()}
    assert fresh.scale == module.scale
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in fresh.tensors.items())
    found = compare_weights(fresh, other)["cosine"].values()
    assert all(value is not None for value in found)
    if kind == "lora":
        size = [t.tensors["attn.q.B"].square().mean((1, 2)).sqrt() for t in (fresh, module)]
        assert torch.allclose(size[0], size[1], rtol=0.3)
    if registry.KINDS[kind].positions is None:  # kinds with positions start from text, which is the same one here
        assert max(abs(value or 0.0) for value in found) < 0.6
