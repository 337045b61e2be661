"""Pruning L to the Bridge: sizes, the choice of coordinates, and exactness without pruning."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gfpet.errors import ModelError
from gfpet.lm.families import Dims, StackDims, find_family
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import Batch, backbone_of, candidate_scores, collate, head_of, ranking_loss
from gfpet.method.prune import (
    Bridge,
    Importance,
    StackImportance,
    activation_importance,
    choose,
    cut,
    fisher_importance,
    load_bridge,
    magnitude_importance,
    reduced_dims,
    save_bridge,
)
from tests.tiny import END, decoder_dims, encoded, learnable, tiny_gpt2

FAMILY = find_family("gpt2")


def batches(count: int = 4, size: int = 2) -> list[Batch]:
    rows = encoded(learnable(count))
    return [collate(rows[start : start + size], pad=END) for start in range(0, count, size)]


def importance_of(how: str, model: nn.Module) -> Importance:
    if how == "magnitude":
        return magnitude_importance(model, FAMILY)
    if how == "activation":
        return activation_importance(FrozenModel(copy.deepcopy(model)), FAMILY, batches())
    return fisher_importance(model, FAMILY, head_of(model), batches(size=1))


@given(
    width=st.integers(8, 2000),
    heads=st.integers(1, 32),
    factor=st.floats(1, 64),
    how=st.sampled_from(["parameters", "width"]),
)
def test_sizes_shrink_by_the_factor_or_its_root(width: int, heads: int, factor: float, how: str) -> None:
    dims = decoder_dims(layers=4, width=width, heads=heads, head_width=8, ffn=4 * width)
    less = reduced_dims(dims, factor, how)
    by = factor if how == "width" else factor**0.5
    assert less.width == max(1, round(width / by))
    whole, kept = dims.stacks["decoder"], less.stacks["decoder"]
    assert kept.heads == kept.kv_heads == max(1, round(heads / by))
    assert (kept.layers, kept.head_width) == (whole.layers, whole.head_width)


def test_a_factor_below_one_is_refused() -> None:
    with pytest.raises(ModelError, match=r"prune\.factor is 0\.5"):
        reduced_dims(decoder_dims(layers=2, width=8, heads=2, head_width=4, ffn=32), 0.5, "width")


@pytest.mark.parametrize("how", ["magnitude", "activation", "fisher"])
def test_factor_one_reproduces_the_large_model(how: str) -> None:
    model = tiny_gpt2(width=24, layers=3, heads=3)
    dims = FAMILY.dims(model.config)
    importance = importance_of(how, model)
    bridge = cut(model, FAMILY, dims, choose(importance, dims, FAMILY))
    batch = batches()[0]
    with torch.no_grad():
        assert torch.equal(backbone_of(bridge, FAMILY)(batch), backbone_of(model, FAMILY)(batch))
        assert torch.equal(head_of(bridge), head_of(model))


@pytest.mark.parametrize("how", ["magnitude", "activation"])
def test_coordinates_that_do_nothing_go_first(how: str) -> None:
    """With all weights of a residual coordinate, a head and a feed-forward unit at zero, none of the three is kept."""
    model = tiny_gpt2(width=24, layers=2, heads=3)
    with torch.no_grad():
        for block in model.transformer.h:
            for linear in (block.attn.c_attn, block.mlp.c_fc):
                linear.weight[5] = 0
            for linear in (block.attn.c_proj, block.mlp.c_proj):
                linear.weight[:, 5] = 0
            for part in range(3):
                block.attn.c_attn.weight[:, part * 24 + 8 : part * 24 + 16] = 0
            block.attn.c_proj.weight[8:16] = 0
            block.mlp.c_fc.weight[:, 7] = 0
            block.mlp.c_proj.weight[7] = 0
    dims = FAMILY.dims(model.config)
    of = dims.stacks["decoder"]
    less = decoder_dims(layers=2, width=dims.width - 1, heads=of.heads - 1, head_width=8, ffn=of.ffn - 1)
    kept = choose(importance_of(how, model), less, FAMILY)
    assert 5 not in kept.residual
    assert kept.stacks["decoder"].heads.tolist() == [[0, 2]] * 2
    assert all(7 not in layer for layer in kept.stacks["decoder"].ffn)


def test_every_weight_of_the_cut_model_stands_in_the_large_one() -> None:
    model = tiny_gpt2(width=24, layers=2, heads=3)
    less = reduced_dims(FAMILY.dims(model.config), 4.0, "parameters")
    kept = choose(magnitude_importance(model, FAMILY), less, FAMILY)
    bridge = cut(model, FAMILY, less, kept)
    inner, large = kept.axis("decoder", "inner", 1), model.transformer.h[1]
    small = bridge.transformer.h[1]
    fused = torch.cat([inner, inner + 24, inner + 48])
    assert torch.equal(small.attn.c_attn.weight, large.attn.c_attn.weight[kept.residual][:, fused])
    assert torch.equal(small.attn.c_proj.weight, large.attn.c_proj.weight[inner][:, kept.residual])
    assert torch.equal(
        small.mlp.c_proj.weight, large.mlp.c_proj.weight[kept.stacks["decoder"].ffn[1]][:, kept.residual]
    )
    assert torch.equal(bridge.transformer.wte.weight, model.transformer.wte.weight[:, kept.residual])
    assert torch.isfinite(backbone_of(bridge, FAMILY)(batches()[0])).all()


def test_a_grouped_key_value_head_keeps_all_its_query_heads() -> None:
    of = StackDims(layers=2, heads=12, kv_heads=4, head_width=2, ffn=10)
    less = reduced_dims(Dims(8, {"decoder": of}), 4.0, "parameters").stacks["decoder"]
    assert (less.heads, less.kv_heads, less.group) == (6, 2, 3)
    one = torch.tensor([[0.0, 3.0, 1.0, 2.0], [5.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    importance = Importance(torch.arange(8.0).double(), {"decoder": StackImportance(one, torch.ones(2, 10).double())})
    kept = choose(importance, Dims(4, {"decoder": less}), FAMILY)
    assert kept.stacks["decoder"].heads.tolist() == [[1, 3], [0, 3]]
    assert kept.axis("decoder", "kv", 0).tolist() == [2, 3, 6, 7]
    assert kept.axis("decoder", "heads", 1).tolist() == [0, 1, 2, 9, 10, 11]
    assert kept.axis("decoder", "inner", 0).tolist() == [*range(6, 12), *range(18, 24)]
    together = replace(FAMILY, stacks=(replace(FAMILY.stacks[0], shared_heads=True),))
    shared = choose(importance, Dims(4, {"decoder": less}), together)
    assert shared.stacks["decoder"].heads.tolist() == [[0, 1]] * 2  # sums 5, 3, 1, 3; the first of ties


def test_fisher_is_the_squared_gradient_example_by_example() -> None:
    model = tiny_gpt2(width=16, layers=2, heads=2)
    found = fisher_importance(model, FAMILY, head_of(model), batches(size=1))
    model.requires_grad_(True)
    squares: dict[str, torch.Tensor] = {}
    for batch in batches(size=1):
        model.zero_grad()
        ranking_loss(candidate_scores(backbone_of(model, FAMILY)(batch), head_of(model), batch), batch).backward()
        for name, weight in model.named_parameters():
            squares[name] = squares.get(name, torch.zeros(())) + weight.grad.double() ** 2
    heads, residual = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    for layer in range(2):
        names = [
            f"transformer.h.{layer}.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        ]
        fused, out, up, down = (squares[name] / squares[name].sum() for name in names)
        residual += fused.sum(1) + out.sum(0) + up.sum(1) + down.sum(0)
        heads[layer] = fused.sum(0).view(3, 2, 8).sum((0, 2)) + out.sum(1).view(2, 8).sum(1)
    torch.testing.assert_close(found.residual, residual, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.stacks["decoder"].heads, heads, rtol=1e-4, atol=1e-6)


def test_fisher_leaves_no_gradient_and_nothing_trainable() -> None:
    model = tiny_gpt2(width=16, layers=2, heads=2)
    fisher_importance(model, FAMILY, head_of(model), batches(size=1))
    FrozenModel(model).check()
    assert all(parameter.grad is None for parameter in model.parameters())


@settings(max_examples=10, deadline=None)
@given(factor=st.sampled_from([1.0, 2.0, 4.0, 9.0]))
def test_a_saved_bridge_is_the_same_when_loaded(factor: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder: Path = tmp_path_factory.mktemp("bridge")
    model = tiny_gpt2(width=24, layers=2, heads=3)
    less = reduced_dims(FAMILY.dims(model.config), factor, "parameters")
    kept = choose(magnitude_importance(model, FAMILY), less, FAMILY)
    bridge = Bridge(cut(model, FAMILY, less, kept), less, kept)
    save_bridge(bridge, model.config, folder)
    again = load_bridge(folder, FAMILY, torch.device("cpu"))
    batch = batches()[0]
    assert torch.equal(backbone_of(again.model, FAMILY)(batch), backbone_of(bridge.model, FAMILY)(batch))
    assert torch.equal(again.kept.residual, kept.residual)
    assert again.dims == less


def test_a_missing_bridge_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="run the stage 'prune' again"):
        load_bridge(tmp_path, FAMILY, torch.device("cpu"))
