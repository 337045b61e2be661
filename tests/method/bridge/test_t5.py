"""T5 from S to L: pruning, ladder, maps, transfer and similarity over both stacks and cross-attention."""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import T5ForConditionalGeneration

from gfpet.errors import ModelError
from gfpet.lm.families import stack_of
from gfpet.lm.families.t5 import T5
from gfpet.lm.models import FrozenModel
from gfpet.lm.modules import inserted, targets_by_kind
from gfpet.lm.scoring import Batch, backbone_of, batches, collate, head_of
from gfpet.lm.training import Hooks, Settings
from gfpet.method.activation_cache import ActivationCache, Plan, plan_activations, recomputed, row_lengths
from gfpet.method.align import explained, fit_maps, layer_likeness, read_through, spaces_for
from gfpet.method.bridge import Transfer, fit_bridge, laddered, selection, start_ladder
from gfpet.method.plug import Projection, layer_assignment, plugged, projected, spaces_of, with_embeddings
from gfpet.method.prune import (
    Bridge,
    Importance,
    activation_importance,
    choose,
    cut,
    fisher_importance,
    load_bridge,
    magnitude_importance,
    reduced_dims,
    save_bridge,
)
from gfpet.similarity import compare_effects, compare_weights, effects, numbered, residuals
from tests.tiny import KIND_NAMES, RANKING, VERBALIZER, learnable, maps_at, tiny_module, tiny_options
from tests.tiny_t5 import (
    PAD,
    TEMPLATE,
    VERSIONS,
    SentinelTokenizer,
    encoded_t5,
    family_of,
    tiny_loaded_t5,
    tiny_t5,
    tiny_task_t5,
)

CPU = torch.device("cpu")


def some_batches(count: int = 4, size: int = 2) -> list[Batch]:
    rows = encoded_t5(learnable(count))
    return [collate(rows[start : start + size], pad=PAD) for start in range(0, count, size)]


def importance_of(how: str, model: T5ForConditionalGeneration) -> Importance:
    family = family_of(model)
    if how == "magnitude":
        return magnitude_importance(model, family)
    if how == "activation":
        return activation_importance(FrozenModel(copy.deepcopy(model)), family, some_batches())
    return fisher_importance(model, family, head_of(model), some_batches(size=1))


def bridge_of(model: T5ForConditionalGeneration, factor: float, how: str = "magnitude") -> Bridge:
    family = family_of(model)
    less = reduced_dims(family.dims(model.config), factor, "parameters")
    kept = choose(importance_of(how, model), less, family)
    return Bridge(cut(model, family, less, kept), less, kept)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["magnitude", "activation", "fisher"])
def test_factor_one_reproduces_the_large_model(how: str, version: str) -> None:
    model = tiny_t5(version=version)
    bridge, batch = bridge_of(model, 1.0, how), collate(encoded_t5([*VERBALIZER, *RANKING]), pad=PAD)
    with torch.no_grad():
        whole, ours = (backbone_of(each, family_of(model))(batch) for each in (model, bridge.model))
    assert torch.equal(ours, whole)
    assert torch.equal(head_of(bridge.model), head_of(model))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cut_model_is_consistent_over_stacks_and_blocks(version: str, tmp_path: Path) -> None:
    model = tiny_t5(24, version=version, heads=4)
    bridge = bridge_of(model, 4.0, "activation")
    kept, encoder, decoder = bridge.kept, bridge.kept.stacks["encoder"], bridge.kept.stacks["decoder"]
    assert (bridge.dims.width, len(kept.residual), encoder.heads.shape) == (12, 12, (2, 2))
    for stack in (encoder, decoder):  # all blocks use the position bias of the first one
        assert all(torch.equal(heads, stack.heads[0]) for heads in stack.heads)
    assert encoder.cross_heads is None
    assert decoder.cross_heads is not None
    small, large = bridge.model, model
    bias = large.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(
        small.decoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight, bias[:, decoder.heads[0]]
    )
    inner = kept.axis("decoder", "cross_inner", 1)
    ours, theirs = (each.decoder.block[1].layer[1].EncDecAttention for each in (small, large))
    assert torch.equal(ours.k.weight, theirs.k.weight[inner][:, kept.residual])
    assert torch.equal(ours.o.weight, theirs.o.weight[kept.residual][:, inner])
    assert torch.equal(small.encoder.final_layer_norm.weight, large.encoder.final_layer_norm.weight[kept.residual])
    assert torch.equal(head_of(small), head_of(large)[:, kept.residual])
    save_bridge(bridge, model.config, tmp_path)
    again, batch, family = load_bridge(tmp_path, family_of(model), CPU), some_batches()[0], family_of(model)
    assert torch.equal(backbone_of(again.model, family)(batch), backbone_of(small, family)(batch))
    assert torch.equal(head_of(again.model), head_of(small))
    assert torch.equal(again.kept.axis("decoder", "cross_kv", 2), kept.axis("decoder", "cross_kv", 2))
    assert again.dims == bridge.dims


def test_a_head_that_no_model_of_the_configuration_has_is_not_cut_in_silence() -> None:
    model = tiny_t5()
    model.lm_head.weight = nn.Parameter(torch.ones_like(model.lm_head.weight), requires_grad=False)
    with pytest.raises(ModelError, match=r"has a weight 'lm_head\.weight' of its own"):
        bridge_of(model, 1.0)


def plan_of(bridge: Bridge, store: str, width: int) -> Plan:
    layers = {stack: of.layers for stack, of in bridge.dims.stacks.items()}
    return plan_activations(
        store, tokens={"encoder": 0, "decoder": 0}, layers=layers, large_width=width,
        bridge_width=bridge.dims.width, dtype=torch.float32, budget=10**6,
    )  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("store", ["full", "projected"])
def test_an_unpruned_bridge_with_its_ladder_reproduces_the_large_model(store: str, version: str) -> None:
    model = tiny_t5(version=version)
    family, bridge, large = family_of(model), bridge_of(model, 1.0), FrozenModel(model)
    plan, batch = plan_of(bridge, store, 16), some_batches()[0]
    ladder = start_ladder(plan, bridge.kept.residual, 0.1, CPU)
    assert {name: tensor.shape[0] for name, tensor in ladder.tensors.items()} == {
        f"ladder.{stack}.{part}": count
        for stack, count in (("encoder", 2), ("decoder", 3))
        for part in ("gate", "down")
    }
    with large.forward_only() as frozen:
        plain = backbone_of(frozen, family)(batch)
    read = recomputed(large, family, plan, bridge.kept.residual)
    with torch.no_grad(), laddered(bridge.model, family, ladder) as backbone:
        torch.testing.assert_close(backbone(read)(batch), plain, rtol=1e-5, atol=1e-5)
        for stack in ("encoder", "decoder"):  # each stack's activations matter
            silent = {name: stream * (name != stack) for name, stream in read(batch).items()}
            other = backbone(lambda _, silent=silent: silent)(batch)
            assert (other - plain).abs().max() > 1e-2


def test_a_cache_gives_what_a_forward_pass_gives_in_both_stacks(tmp_path: Path) -> None:
    model = tiny_t5()
    large, bridge = FrozenModel(model), bridge_of(model, 4.0)
    rows = encoded_t5([*RANKING, *VERBALIZER])
    lengths = row_lengths(rows)
    assert sorted(lengths) == ["decoder", "encoder"]
    plan = Plan(
        "projected",
        torch.float32,
        {"encoder": (0, 1), "decoder": (0, 2)},
        bridge.dims.width,
        {stack: sum(each) for stack, each in lengths.items()},
    )
    cache = ActivationCache(tmp_path, plan, lengths)
    cache.fill(rows, large, T5, bridge.kept.residual, batch_size=3, pad=PAD, device=CPU)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) == plan.bytes
    assert "2 layers of the encoder" in str(plan)
    for _, batch in batches(rows, size=2, pad=PAD, order=[4, 0, 7, 2]):
        exact, found = recomputed(large, T5, plan, bridge.kept.residual)(batch), cache(batch)
        for stack, real in batch.is_real.items():
            torch.testing.assert_close(found[stack][:, real], exact[stack][:, real], rtol=1e-5, atol=1e-5)
            assert not found[stack][:, ~real].any()


def identity(spaces: set[str], model: T5ForConditionalGeneration) -> dict[str, torch.Tensor]:
    family = family_of(model)
    depths = family.depths_of(model)
    return {
        space: torch.eye(family.target_widths(model, space.rpartition(".")[0])[space.endswith(".out")]).repeat(
            maps_at(space, depths.get(stack_of(space), 1)), 1, 1
        )
        for space in spaces
    }


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_plug_is_the_small_model_when_both_are_the_same_and_the_maps_are_the_identity(kind: str, version: str) -> None:
    model = tiny_t5(version=version)
    family = family_of(model)
    module, depths = tiny_module(kind, model, family=family), family.depths_of(model)
    reads, writes = spaces_of(module)
    maps = Projection(identity(reads, model), identity(writes, model))
    same = plugged(module, maps, layer_assignment("stack", depths, depths), divide_by_copies=True)
    assert same.layers == module.layers
    batch = some_batches()[0]
    with torch.no_grad(), inserted(model, family, module):
        tuned = backbone_of(model, family)(batch)
    with FrozenModel(model).forward_only() as frozen, inserted(frozen, family, same):
        assert torch.equal(backbone_of(frozen, family)(batch), tuned)


TARGETS = targets_by_kind(T5, {kind: tiny_options(kind) for kind in KIND_NAMES})
SMALL, LARGE = tiny_loaded_t5(12, (1, 2)), tiny_loaded_t5(24, (2, 4), heads=4, seed=1)
FROZEN = FrozenModel(LARGE.model)
PAIRS = layer_assignment("interpolate", T5.depths_of(SMALL.model), T5.depths_of(LARGE.model))


def text(count: int = 30) -> list[Batch]:
    rows = read_through(
        [*VERBALIZER, *RANKING, *learnable(count)], SentinelTokenizer(), max_length=20, template=TEMPLATE
    )
    return [collate(rows[start : start + 8], pad=PAD) for start in range(0, len(rows), 8)]


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_module_goes_from_s_through_l_to_the_bridge_and_is_trained(kind: str) -> None:
    module = tiny_module(kind, SMALL.model, family=T5)
    reads, writes = spaces_of(module)
    assert (reads, writes) == spaces_for({kind: TARGETS[kind]})
    pairs = with_embeddings(PAIRS, module.layers)
    maps = fit_maps(SMALL, FROZEN, text(), pairs, reads=reads, writes=writes)
    bridge = bridge_of(LARGE.model, 4.0)
    in_large = plugged(module, maps, PAIRS, divide_by_copies=True)
    assert in_large.layers == {stack: tuple(range(len(pairs[stack]))) for stack in module.layers}
    w_down = selection(in_large, T5, bridge.kept, T5.dims(LARGE.model.config))
    transfer = Transfer(module, maps, w_down, PAIRS, True)
    in_bridge = projected(in_large, w_down)
    for name, tensor in in_bridge.tensors.items():
        assert torch.isfinite(tensor).all(), name
    plan = plan_of(bridge, "full", 24)
    read = recomputed(FROZEN, T5, plan, bridge.kept.residual)
    losses: list[float] = []

    def log(series: str, _: int, value: float) -> None:
        if series == "loss":
            losses.append(value)

    before = {name: tensor.clone() for name, tensor in transfer.trained.items()}
    fit_bridge(
        bridge, T5, start_ladder(plan, bridge.kept.residual, 0.1, CPU), transfer, tiny_task_t5(), read, read,
        Settings(epochs=4, batch_size=6, patience=0, warmup=0.0), learning_rate=1e-2, bridge_learning_rate=1e-2,
        train_bridge=True, seed=0, gradient_checkpointing=False, hooks=Hooks(log=log),
    )  # fmt: skip
    assert losses[-1] < losses[0]
    still = {name for name, tensor in transfer.trained.items() if torch.equal(tensor, before[name])}
    assert still == set()
    with FROZEN.forward_only() as large, inserted(large, T5, transfer.in_large().detached()):
        assert torch.isfinite(backbone_of(large, T5)(text(8)[0])).all()


def test_a_model_is_mapped_to_itself_and_its_layers_are_like_themselves() -> None:
    depths = T5.depths_of(LARGE.model)
    reads, writes = spaces_for(TARGETS)
    pairs = with_embeddings(layer_assignment("stack", depths, depths), reads | writes)
    maps = fit_maps(LARGE, FROZEN, text(90), pairs, reads=reads, writes=writes, ridge=1e-9)
    assert {name: len(tensor) for name, tensor in maps.reads.items() if name.endswith("attn.q.in")} == {
        "encoder.attn.q.in": 2,
        "decoder.attn.q.in": 4,
    }
    quality = explained(maps, LARGE, FROZEN, text(40)[-3:], pairs)
    assert min(quality.values()) > 0.999
    likeness = layer_likeness(LARGE, FROZEN, text(), tokens=60)
    assert {stack: tuple(found.shape) for stack, found in likeness.items()} == {"encoder": (2, 2), "decoder": (4, 4)}
    assert layer_assignment("cka", depths, depths, likeness) == layer_assignment("stack", depths, depths)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_likeness_is_by_block_over_both_stacks(kind: str) -> None:
    model = LARGE.model
    module, other = (tiny_module(kind, model, family=T5, seed=seed) for seed in (5, 6))
    numbers = numbered(T5.depths_of(model))
    assert list(numbers.values()) == list(range(6))
    same = compare_weights(module, module)["cosine"]
    assert set(same) == {(stack, layer) for stack, layers in module.layers.items() for layer in layers}
    assert all(value == pytest.approx(1.0) for value in same.values())
    assert max(abs(value or 0.0) for value in compare_weights(module, other)["cosine"].values()) < 0.6
    with FROZEN.forward_only() as frozen:
        plain = residuals(frozen, T5, text(), tokens=50)
        done = effects(frozen, T5, module, text(), plain, tokens=50)
    assert len(done) == 6
    assert all(len(effect) <= 50 and effect.abs().max() > 0 for effect in done)
    assert len({len(effect) for effect in done}) == 2  # the stacks read different tokens
    cells = [(a, b) for (x, a), (y, b) in product(numbers.items(), numbers.items()) if x[0] == y[0]]
    found = compare_effects(done, done, cells)["cka"]
    assert [found[number, number] for number in range(6)] == pytest.approx([1.0] * 6)
