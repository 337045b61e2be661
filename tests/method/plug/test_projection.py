"""The algebra of plugging: a plugged module computes the equations of docs/method.md."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gfpet.errors import ModuleError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import PetModule, inserted
from gfpet.method.plug import (
    Projection,
    duplicated,
    layer_assignment,
    plugged,
    projected,
    random_like,
    spaces_of,
    with_embeddings,
)
from tests.tiny import KIND_NAMES, logits_of, maps_at, some_ids, tiny_gpt2, tiny_module

WIDTHS = {"residual": 16, "inner": 16, "ffn": 64}


def widths_at(space: str, model: nn.Module) -> int:
    target, side = space.rsplit(".", 1)
    return GPT2.target_widths(model, target)[side == "out"]


def maps_between(
    module: PetModule, small: nn.Module, large: nn.Module, *, layers: int, seed: int = 3, offsets: bool = False
) -> Projection:
    """Random maps for all activation spaces of a module."""
    generator = torch.Generator().manual_seed(seed)

    def draw(space: str, *shape: int) -> Tensor:
        return torch.randn(maps_at(space, layers), *shape, generator=generator) / math.sqrt(shape[-1])

    reads, writes = (sorted(spaces) for spaces in spaces_of(module))
    return Projection(
        reads={space: draw(space, widths_at(space, small), widths_at(space, large)) for space in reads},
        writes={space: draw(space, widths_at(space, large), widths_at(space, small)) for space in writes},
        read_offsets={space: draw(space, widths_at(space, small)) for space in reads} if offsets else {},
        write_offsets={space: draw(space, widths_at(space, large)) for space in writes} if offsets else {},
    )


def identity(module: PetModule, model: nn.Module, *, layers: int) -> Projection:
    reads, writes = spaces_of(module)

    def eye(space: str) -> Tensor:
        return torch.eye(widths_at(space, model)).expand(maps_at(space, layers), -1, -1)

    return Projection({space: eye(space) for space in reads}, {space: eye(space) for space in writes})


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("layers", [1, 3])
def test_identity_maps_into_the_same_model_change_nothing(kind: str, layers: int) -> None:
    model, ids = tiny_gpt2(layers=3), some_ids()
    module = tiny_module(kind, model)
    same = plugged(
        module,
        identity(module, model, layers=layers),
        layer_assignment("stack", {"decoder": 3}, {"decoder": 3}),
        divide_by_copies=True,
    )
    assert same.layers == module.layers
    with inserted(model, GPT2, module):
        expected = logits_of(model, ids)
    with inserted(model, GPT2, same):
        assert torch.allclose(logits_of(model, ids), expected, atol=1e-6)


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("name", ["stack", "interpolate", "depth"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_plugged_module_fits_the_large_model(kind: str, name: str, shared: bool) -> None:
    small, large = tiny_gpt2(16, 2), tiny_gpt2(24, 4)
    module, ids = tiny_module(kind, small), some_ids()
    pairs = layer_assignment(name, {"decoder": 2}, {"decoder": 4})  # type: ignore[arg-type]
    maps = maps_between(module, small, large, layers=len(pairs["decoder"]), offsets=True)
    moved = plugged(module, maps.shared() if shared else maps, pairs, divide_by_copies=True)
    everywhere = with_embeddings(pairs, module.layers)
    assert moved.layers == {stack: tuple(layer for layer, _ in everywhere[stack]) for stack in module.layers}
    assert (moved.kind, moved.scale) == (module.kind, module.scale)
    before = logits_of(large, ids)
    with inserted(large, GPT2, moved):
        assert not torch.allclose(logits_of(large, ids), before, atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 8), st.integers(1, 8), st.integers(1, 3))
def test_a_projected_lora_has_the_update_p_b_a_q(seed: int, rank: int, d_s: int, d_l: int, layers: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    a, b, q, p = draw(layers, rank, d_s), draw(layers, d_s, rank), draw(layers, d_s, d_l), draw(layers, d_l, d_s)
    module = PetModule("lora", "gpt2", {"decoder": tuple(range(layers))}, {"attn.q.A": a, "attn.q.B": b}, 2.0)
    moved = projected(module, Projection({"attn.q.in": q}, {"attn.q.out": p}))
    assert moved.tensors["attn.q.A"].shape == (layers, rank, d_l)
    update = moved.tensors["attn.q.B"] @ moved.tensors["attn.q.A"]
    assert torch.allclose(update, p @ b @ a @ q, atol=1e-3)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 8), st.integers(1, 8), st.booleans())
def test_a_projected_adapter_reads_through_q_and_writes_through_p(
    seed: int, bottleneck: int, d_s: int, d_l: int, centred: bool
) -> None:
    """The output is `P (U φ(D h_S + b) + c)` with `h_S = Q h_L + offset`."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    n = 2
    down, b, up, c = draw(n, bottleneck, d_s), draw(n, bottleneck), draw(n, d_s, bottleneck), draw(n, d_s)
    names = dict(zip(("down", "down_bias", "up", "up_bias"), (down, b, up, c), strict=True))
    module = PetModule(
        "adapter", "gpt2", {"decoder": (0, 1)}, {f"attn.o.{name}": tensor for name, tensor in names.items()}
    )
    q, p, offset, h = draw(n, d_s, d_l), draw(n, d_l, d_s), draw(n, d_s), draw(n, d_l)
    offsets = {"attn.o.out": offset} if centred else {}
    moved = projected(module, Projection({"attn.o.out": q}, {"attn.o.out": p}, offsets, {"attn.o.out": draw(n, d_l)}))

    def effect(of: PetModule, x: Tensor) -> Tensor:
        parts = {name.rsplit(".", 1)[1]: tensor for name, tensor in of.tensors.items()}
        inner = torch.nn.functional.gelu((parts["down"] @ x[..., None])[..., 0] + parts["down_bias"])
        return (parts["up"] @ inner[..., None])[..., 0] + parts["up_bias"]

    read = (q @ h[..., None])[..., 0] + (offset if centred else 0.0)
    expected = (p @ effect(module, read)[..., None])[..., 0]
    assert torch.allclose(effect(moved, h), expected, atol=1e-3)


def test_a_projected_prefix_is_mapped_and_shifted() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values, p, offset = (
        torch.randn(*shape, generator=generator) for shape in ((2, 4, 6), (2, 4, 6), (2, 9, 6), (2, 9))
    )
    module = PetModule("prefix", "gpt2", {"decoder": (0, 1)}, {"attn.k.prefix": keys, "attn.v.prefix": values})
    writes = {"attn.k.out": p, "attn.v.out": 2 * p}
    moved = projected(module, Projection({}, writes, {}, {"attn.k.out": offset})).tensors
    for layer in range(2):
        for token in range(4):
            key = p[layer] @ keys[layer, token] + offset[layer]
            assert torch.allclose(moved["attn.k.prefix"][layer, token], key, atol=1e-5)
            assert torch.allclose(moved["attn.v.prefix"][layer, token], 2 * p[layer] @ values[layer, token], atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["stack", "interpolate", "depth"]), st.integers(1, 4), st.integers(0, 6))
def test_copies_divided_by_their_number_sum_back_to_the_original(name: str, small: int, more: int) -> None:
    generator = torch.Generator().manual_seed(small * 10 + more)
    tensors = {
        "attn.o.down": torch.randn(small, 3, 8, generator=generator),
        "attn.o.down_bias": torch.randn(small, 3, generator=generator),
        "attn.o.up": torch.randn(small, 8, 3, generator=generator),
        "attn.o.up_bias": torch.randn(small, 8, generator=generator),
    }
    module = PetModule("adapter", "gpt2", {"decoder": tuple(range(small))}, tensors)
    pairs = layer_assignment(name, {"decoder": small}, {"decoder": small + more})  # type: ignore[arg-type]
    for divide in (True, False):
        laid_out = duplicated(module, pairs, divide_by_copies=divide)
        for source in range(small):
            copies = [index for index, (_, taken) in enumerate(pairs["decoder"]) if taken == source]
            for tensor_name, tensor in laid_out.tensors.items():
                if divide and ".up" in tensor_name:
                    assert torch.allclose(tensor[copies].sum(0), tensors[tensor_name][source], atol=1e-5)
                else:
                    assert all(torch.equal(tensor[copy], tensors[tensor_name][source]) for copy in copies)


def test_a_prefix_is_never_divided() -> None:
    module = tiny_module("prefix", tiny_gpt2())
    laid_out = duplicated(module, layer_assignment("stack", {"decoder": 2}, {"decoder": 4}), divide_by_copies=True)
    assert torch.equal(laid_out.tensors["attn.k.prefix"][:2], module.tensors["attn.k.prefix"])


def test_layers_are_found_by_their_block_and_not_by_their_place() -> None:
    module = PetModule("lora", "gpt2", {"decoder": (1, 4)}, {"attn.q.A": torch.arange(2.0).view(2, 1, 1)})
    laid_out = duplicated(module, {"decoder": ((0, 4), (1, 1))}, divide_by_copies=False)
    assert laid_out.tensors["attn.q.A"].flatten().tolist() == [1.0, 0.0]


def test_gradients_reach_module_and_maps() -> None:
    small, large = tiny_gpt2(16, 2), tiny_gpt2(24, 4)
    module = tiny_module("lora", small)
    maps = maps_between(module, small, large, layers=4)
    leaves = [*module.tensors.values(), *maps.named().values()]
    for leaf in leaves:
        leaf.requires_grad_(True)
    moved = plugged(module, maps, layer_assignment("stack", {"decoder": 2}, {"decoder": 4}), divide_by_copies=True)
    with inserted(large, GPT2, moved):
        logits_of(large, some_ids()).square().mean().backward()
    assert all(leaf.grad is not None and float(leaf.grad.abs().max()) > 0 for leaf in leaves)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_random_maps_are_semi_orthogonal_with_the_norm_of_those_they_replace(rows: int, columns: int, n: int) -> None:
    generator = torch.Generator().manual_seed(rows * columns)
    given_maps = Projection({"a.in": torch.randn(n, rows, columns, generator=generator) * 3})
    drawn = random_like(given_maps, generator).reads["a.in"]
    for matrix, replaced in zip(drawn, given_maps.reads["a.in"], strict=True):
        assert torch.allclose(torch.linalg.norm(matrix), torch.linalg.norm(replaced), rtol=1e-4)
        gram = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
        assert torch.allclose(gram, gram[0, 0] * torch.eye(min(rows, columns)), atol=1e-3)


def test_random_maps_take_no_offsets_and_are_drawn_by_the_generator() -> None:
    small, large = tiny_gpt2(16, 2), tiny_gpt2(24, 4)
    maps = maps_between(tiny_module("adapter", small), small, large, layers=4, offsets=True)
    one, two, other = (random_like(maps, torch.Generator().manual_seed(seed)).named() for seed in (0, 0, 1))
    assert set(one) == {name for name in maps.named() if "offsets" not in name}
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


def test_only_the_maps_of_a_module_are_taken(tmp_path: Path) -> None:
    small, large = tiny_gpt2(16, 2), tiny_gpt2(24, 4)
    lora, adapter = tiny_module("lora", small), tiny_module("adapter", small)
    both = {
        **maps_between(lora, small, large, layers=4, offsets=True).named(),
        **maps_between(adapter, small, large, layers=4, offsets=True).named(),
    }
    maps = Projection.of(both)
    assert set(maps.for_module(adapter).reads) == {"attn.o.out", "mlp.down.out"}
    assert set(maps.for_module(lora).writes) == {
        f"{target}.out" for target in ("attn.q", "attn.v", "attn.o", "mlp.up", "mlp.down")
    }
    assert set(maps.for_module(adapter).read_offsets) == {"attn.o.out", "mlp.down.out"}
    maps.save(tmp_path / "maps" / "maps.safetensors")
    back = Projection.load(tmp_path / "maps" / "maps.safetensors").named()
    assert back.keys() == both.keys()
    assert all(torch.equal(back[name], both[name]) for name in both)


def test_errors_name_the_space_and_the_widths(tmp_path: Path) -> None:
    module = tiny_module("lora", tiny_gpt2())
    with pytest.raises(ModuleError, match=r"no map for 'attn\.o\.in', which 'attn\.o\.A' reads"):
        projected(module, Projection())
    reads, writes = spaces_of(module)
    wrong = Projection({space: torch.zeros(1, 5, 7) for space in reads}, {s: torch.zeros(1, 7, 5) for s in writes})
    with pytest.raises(ModuleError, match=r"'attn\.o\.A' has width 16, but its map at 'attn\.o\.in' takes 5"):
        projected(module, wrong)
    with pytest.raises(ModuleError, match=r"missing\.safetensors"):
        Projection.load(tmp_path / "missing.safetensors")
