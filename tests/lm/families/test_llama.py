"""Llama and similar models: the tables match the real models, and every operation on a family works."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gfpet.lm.families import Dims, StackDims, find_family
from gfpet.lm.families.llama import LLAMA
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import backbone_of, collate, head_of, predict
from gfpet.lm.training import Hooks, Settings, checkpointing, start_module, tune_module
from gfpet.method.activation_cache import plan_activations, recomputed
from gfpet.method.bridge import Transfer, laddered, start_ladder
from gfpet.method.plug import Projection, layer_assignment, spaces_of
from gfpet.method.prune import Bridge, activation_importance, choose, cut, magnitude_importance, reduced_dims
from tests.tiny import (
    END,
    KIND_NAMES,
    RANKING,
    VERBALIZER,
    ByteTokenizer,
    encoded,
    learnable,
    logits_of,
    maps_at,
    some_ids,
    tiny_llama,
    tiny_module,
    tiny_options,
    tiny_task,
)

SHAPES = ("llama", "qwen2", "qwen3", "mistral")
ODD = Dims(20, {"decoder": StackDims(layers=3, heads=6, kv_heads=3, head_width=8, ffn=33)})
"""Widths that no head count divides."""


def require_true_tables(model: nn.Module, dims: Dims) -> None:
    """Require that the table names every parameter, with its shape."""
    axes, seen = LLAMA.stack("decoder").axes, set()
    for block in LLAMA.blocks_of(model, "decoder"):
        for name, parameter in block.named_parameters():
            known = [(got, axis) for got, axis in zip(parameter.shape, axes[name], strict=True) if axis != "-"]
            assert all(got == dims.size("decoder", axis) for got, axis in known), name
            seen.add(parameter)
    for name, parameter in model.named_parameters():
        if parameter not in seen:
            known = [
                (got, axis) for got, axis in zip(parameter.shape, LLAMA.outer_axes[name], strict=True) if axis != "-"
            ]
            assert all(got == dims.size("decoder", axis) for got, axis in known), name


def test_it_is_found_by_its_name() -> None:
    assert find_family("llama") is LLAMA
    assert set(LLAMA.model_types) == set(SHAPES)


@pytest.mark.parametrize("kind", SHAPES)
def test_tables_are_true_of_the_model_and_of_a_resized_one(kind: str) -> None:
    model = tiny_llama(kind=kind, layers=3)
    require_true_tables(model, LLAMA.dims(model.config))
    assert LLAMA.dims(model.config).stacks["decoder"] == StackDims(layers=3, heads=4, kv_heads=2, head_width=8, ffn=48)
    resized = LLAMA.resized(model.config, ODD).eval()
    require_true_tables(resized, ODD)
    assert logits_of(resized, some_ids()).shape == (3, 7, 257)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (16, 3)


def test_biases_are_where_qwen2_has_them() -> None:
    names = {name for name, _ in LLAMA.blocks_of(tiny_llama(kind="qwen2"), "decoder")[0].named_parameters()}
    assert {f"self_attn.{part}_proj.bias" for part in "qkv"} <= names
    assert "self_attn.o_proj.bias" not in names


@pytest.mark.parametrize("kind", SHAPES)
def test_sites_point_at_maps_of_the_widths_they_name(kind: str) -> None:
    model = tiny_llama(kind=kind)
    dims = LLAMA.dims(model.config)
    for name, target in LLAMA.target_modules.items():
        wanted = dims.size("decoder", target.reads), dims.size("decoder", target.writes)
        assert LLAMA.target_widths(model, name) == wanted, name
    assert LLAMA.target_widths(model, "attn.k") == (16, 16)
    assert LLAMA.target_widths(model, "attn.q") == (16, 32)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("importance", ["magnitude", "activation"])
def test_an_unpruned_bridge_reproduces_the_large_model(kind: str, tied: bool, importance: str) -> None:
    model = tiny_llama(kind=kind, tie_word_embeddings=tied)
    dims = reduced_dims(LLAMA.dims(model.config), 1.0, "parameters")
    if importance == "magnitude":
        found = magnitude_importance(model, LLAMA)
    else:
        found = activation_importance(FrozenModel(model), LLAMA, [collate(encoded(VERBALIZER), pad=END)])
    bridge = cut(model, LLAMA, dims, choose(found, dims, LLAMA))
    with torch.inference_mode():
        assert torch.equal(logits_of(bridge, some_ids()), logits_of(model, some_ids()))
    assert len(list(bridge.parameters())) == len(list(model.parameters()))


@pytest.mark.parametrize("kind", SHAPES)
def test_heads_go_as_whole_groups(kind: str) -> None:
    """The kept key/value head comes with its own query heads, in their order, and with its biases and norms."""
    model = tiny_llama(24, kind=kind, heads=6, kv_heads=3)
    dims = reduced_dims(LLAMA.dims(model.config), 9.0, "parameters")
    of = dims.stacks["decoder"]
    assert (of.heads, of.kv_heads, of.group) == (2, 1, 2)
    kept = choose(magnitude_importance(model, LLAMA), dims, LLAMA)
    bridge = cut(model, LLAMA, dims, kept)
    for layer, (small, large) in enumerate(
        zip(LLAMA.attentions_of(bridge, "attn"), LLAMA.attentions_of(model, "attn"), strict=True)
    ):
        head = int(kept.stacks["decoder"].heads[layer])
        for name, group in (("q_proj", 2), ("k_proj", 1), ("v_proj", 1)):
            ours, theirs = small.get_submodule(name), large.get_submodule(name)
            rows = theirs.weight.view(3, group * 8, 24)[head][:, kept.residual]
            assert torch.equal(ours.weight, rows), name
            if theirs.bias is not None:
                assert torch.equal(ours.bias, theirs.bias.view(3, group * 8)[head]), name
    assert torch.isfinite(logits_of(bridge, some_ids())).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_the_ladder_of_an_unpruned_bridge_leaves_the_large_models_states(kind: str) -> None:
    model = tiny_llama(kind=kind, layers=4)
    large = FrozenModel(model)
    dims = LLAMA.dims(model.config)
    kept = choose(magnitude_importance(model, LLAMA), dims, LLAMA)
    bridge = Bridge(cut(model, LLAMA, dims, kept), dims, kept)
    plan = plan_activations(
        "full",
        tokens={"decoder": 100},
        layers={"decoder": 4},
        large_width=16,
        bridge_width=16,
        dtype=torch.float32,
        budget=10**9,
    )
    ladder = start_ladder(plan, kept.residual, 0.1, torch.device("cpu"))
    batch = collate(encoded(learnable(4)), pad=END)
    read = recomputed(large, LLAMA, plan, kept.residual)
    with torch.no_grad(), laddered(bridge.model, LLAMA, ladder) as backbone:
        mixed = backbone(read)(batch)
    with large.forward_only() as frozen:
        torch.testing.assert_close(mixed, backbone_of(frozen, LLAMA)(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_plug_is_the_small_model_when_both_are_the_same_and_the_maps_are_the_identity(kind: str, shape: str) -> None:
    model = tiny_llama(kind=shape, layers=3)
    module = tiny_module(kind, model, family=LLAMA)
    reads, writes = spaces_of(module)

    def eyes(spaces: set[str]) -> dict[str, torch.Tensor]:
        sizes = {}
        for space in spaces:
            target, side = space.rsplit(".", 1)
            sizes[space] = LLAMA.target_widths(model, target)[side == "out"]
        return {space: torch.eye(size).repeat(maps_at(space, 3), 1, 1) for space, size in sizes.items()}

    pairs = layer_assignment("stack", {"decoder": 3}, {"decoder": 3})
    transfer = Transfer(module, Projection(eyes(reads), eyes(writes)), Projection(), pairs, True)
    batch = collate(encoded(learnable(3)), pad=END)
    with torch.no_grad(), inserted(model, LLAMA, module):
        tuned = backbone_of(model, LLAMA)(batch)
    large = FrozenModel(model)
    with large.forward_only() as frozen, inserted(frozen, LLAMA, transfer.in_large()):
        assert torch.equal(backbone_of(frozen, LLAMA)(batch), tuned)
    with large.forward_only() as frozen:
        assert not torch.allclose(backbone_of(frozen, LLAMA)(batch), tuned)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_gradient_checkpointing_changes_no_gradient(kind: str, shape: str) -> None:
    model, ids = tiny_llama(kind=shape, layers=3), some_ids()

    def gradients(enabled: bool) -> dict[str, torch.Tensor]:
        start = tiny_module(kind, model, family=LLAMA)
        module = start.with_tensors({name: tensor.requires_grad_(True) for name, tensor in start.tensors.items()})
        with checkpointing(model, enabled), inserted(model, LLAMA, module):
            logits_of(model, ids).square().mean().backward()
        return {name: tensor.grad for name, tensor in module.tensors.items() if tensor.grad is not None}

    plain, recomputed_ = gradients(False), gradients(True)
    assert plain.keys() == recomputed_.keys() == tiny_module(kind, model, family=LLAMA).tensors.keys()
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(recomputed_[name], gradient)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [*KIND_NAMES, "none"])
def test_padding_changes_no_score(kind: str, shape: str) -> None:
    model = tiny_llama(kind=shape)
    module: PetModule | None = None if kind == "none" else tiny_module(kind, model, family=LLAMA)
    for rows in (encoded(VERBALIZER), encoded(RANKING)):
        scores = []
        for size in (1, len(rows)):
            with inserted(model, LLAMA, module) if module else torch.no_grad():
                scores.append(predict(rows, backbone_of(model, LLAMA), head_of(model), batch_size=size, pad=END).scores)
        for alone, together in zip(*scores, strict=True):
            assert alone == pytest.approx(together, abs=1e-4)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_module_learns(kind: str) -> None:
    model = tiny_llama(width=32, heads=4, kv_heads=2)
    loaded = LoadedModel(model, LLAMA, ByteTokenizer(), "tiny")
    options = {kind: tiny_options(kind) for kind in KIND_NAMES} | {
        "lora": {"rank": 4, "alpha": 8.0, "target_modules": ("attn.q", "attn.v")},
        "adapter": {"bottleneck": 8, "target_modules": ("attn.o", "mlp.down")},
    }
    data = tiny_task(train=24, dev=8)
    module = start_module(kind, loaded, options[kind], data, seed=0)
    losses: list[float] = []

    def log(series: str, _: int, value: float) -> None:
        if series == "loss":
            losses.append(value)

    before = {name: weight.clone() for name, weight in model.named_parameters()}
    tuned, _ = tune_module(
        loaded, module, data, Settings(epochs=6, batch_size=8), learning_rate=3e-2, seed=0, hooks=Hooks(log=log)
    )
    assert sum(losses[-3:]) < sum(losses[:3])
    assert any(not torch.equal(tuned.tensors[name], module.tensors[name]) for name in module.tensors)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("kind", SHAPES)
def test_a_configuration_keeps_what_belongs_to_the_blocks_that_stay(kind: str) -> None:
    config = tiny_llama(kind=kind, layers=4).config
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    assert LLAMA.thinned is not None
    thin = LLAMA.thinned(config, {"decoder": (0, 1, 3)})
    assert (thin.num_hidden_layers, config.num_hidden_layers) == (3, 4)
    if getattr(config, "layer_types", None) is not None:
        assert thin.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    copy.deepcopy(thin)
