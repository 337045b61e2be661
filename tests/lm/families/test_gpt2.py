"""GPT-2's table of names and shapes matches the real model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gfpet.errors import ModelError
from gfpet.lm.families import Dims, find_family
from gfpet.lm.families.gpt2 import GPT2
from tests.tiny import decoder_dims, logits_of, some_ids, tiny_gpt2

ODD = decoder_dims(layers=2, width=20, heads=2, head_width=8, ffn=40)
"""Sizes that Hugging Face's own GPT-2 cannot have: heads do not fill the width."""


AXES = GPT2.stack("decoder").axes


def size_of(axis: str, dims: Dims) -> int:
    count, name = (int(axis[0]), axis[2:]) if axis[1:2] == "*" else (1, axis)
    return count * dims.size("decoder", name)


def require_true_tables(model: nn.Module, dims: Dims) -> None:
    """Require that the table names every parameter once, with its shape."""
    seen = set()
    for block in GPT2.blocks_of(model, "decoder"):
        parameters = dict(block.named_parameters())
        assert set(parameters) == set(AXES)
        for name, axes in AXES.items():
            assert tuple(parameters[name].shape) == tuple(size_of(axis, dims) for axis in axes), name
        seen.update(parameters.values())
    outer = {name: parameter for name, parameter in model.named_parameters() if parameter not in seen}
    assert set(outer) == set(GPT2.outer_axes)
    for name, axes in GPT2.outer_axes.items():
        known = [(got, size_of(axis, dims)) for got, axis in zip(outer[name].shape, axes, strict=True) if axis != "-"]
        assert all(got == wanted for got, wanted in known), name


def test_axes_name_every_parameter_once_with_its_true_shape() -> None:
    model = tiny_gpt2(24, 3)
    require_true_tables(model, GPT2.dims(model.config))


def test_axes_are_true_of_a_resized_model() -> None:
    require_true_tables(GPT2.resized(tiny_gpt2(24, 3).config, ODD), ODD)


def test_dims_come_from_the_configuration() -> None:
    config = tiny_gpt2(24, 3, heads=4).config
    assert GPT2.dims(config) == decoder_dims(layers=3, width=24, heads=4, head_width=6, ffn=96)
    config.n_inner = 50
    assert GPT2.dims(config).stacks["decoder"].ffn == 50


def test_a_resized_model_has_the_asked_sizes_and_runs() -> None:
    original = tiny_gpt2(24, 3)
    model = GPT2.resized(original.config, ODD)
    assert logits_of(model, some_ids()).shape == (3, 7, 257)
    assert len(GPT2.blocks_of(model, "decoder")) == 2
    assert GPT2.target_widths(model, "attn.v") == (20, 16)
    assert model.config._attn_implementation == "sdpa"
    assert original.config.n_embd == 24
    assert original.config.n_head == 2


@pytest.mark.parametrize("by_layer", [False, True])
def test_with_the_same_sizes_and_weights_a_resized_model_is_the_same_model(by_layer: bool) -> None:
    original = tiny_gpt2(24, 3, heads=4)
    original.config.scale_attn_by_inverse_layer_idx = by_layer
    if by_layer:
        for index, attention in enumerate(GPT2.attentions_of(original, "attn")):
            attention.scaling /= index + 1
    copy = GPT2.resized(original.config, GPT2.dims(original.config)).eval()
    copy.load_state_dict(original.state_dict())
    ids = some_ids()
    assert torch.equal(logits_of(copy, ids), logits_of(original, ids))


def test_sites_point_at_maps_of_the_widths_they_name() -> None:
    model = tiny_gpt2(24, 2, heads=4)
    dims = GPT2.dims(model.config)
    for name, target in GPT2.target_modules.items():
        assert GPT2.target_widths(model, name) == (size_of(target.reads, dims), size_of(target.writes, dims)), name


def test_a_weight_is_read_in_to_out_whichever_way_it_is_stored() -> None:
    linear = nn.Linear(3, 5)
    assert torch.equal(GPT2.weight_in_out(linear), linear.weight.T)
    block = GPT2.blocks_of(tiny_gpt2(), "decoder")[0]
    assert GPT2.weight_in_out(GPT2.linear_at(block, "mlp.up")).shape == (16, 64)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="unknown model family 'gtp2'; did you mean 'gpt2'"):
        find_family("gtp2")
    with pytest.raises(ModelError, match=r"unknown target of family gpt2 'attn\.w'; did you mean"):
        GPT2.target("attn.w")
