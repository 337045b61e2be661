"""GPT-2 (Radford et al. 2019). Its `Conv1D` stores `[in, out]`; `c_attn` fuses query, key and value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from gfpet.errors import ModelError
from gfpet.lm.families._dims import Dims, StackDims
from gfpet.lm.families._family import Attention, Family, Stack, TargetModule, run_decoder


def _dims(config: GPT2Config) -> Dims:
    decoder = StackDims(
        layers=config.n_layer,
        heads=config.n_head,
        kv_heads=config.n_head,
        head_width=config.n_embd // config.n_head,
        ffn=config.n_inner or 4 * config.n_embd,
    )
    return Dims(config.n_embd, {"decoder": decoder})


def _resized(config: GPT2Config, dims: Dims) -> nn.Module:
    """Replaces the attention layers, because Hugging Face requires `n_embd = n_head * head_width` in GPT-2."""
    config, of = copy.deepcopy(config), dims.stacks["decoder"]
    config.update({"n_layer": of.layers, "n_embd": dims.width, "n_head": 1, "n_inner": of.ffn})
    model = GPT2LMHeadModel(config)
    for block in model.transformer.h:
        attention: Any = block.attn
        attention.num_heads, attention.head_dim, attention.split_size = of.heads, of.head_width, of.inner
        attention.scaling = of.head_width**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            attention.scaling /= attention.layer_idx + 1
        attention.c_attn = Conv1D(3 * of.inner, dims.width)  # type: ignore[no-untyped-call]
        attention.c_proj = Conv1D(dims.width, of.inner)  # type: ignore[no-untyped-call]
    return model


def _thinned(config: GPT2Config, kept: Mapping[str, Sequence[int]]) -> GPT2Config:
    if config.scale_attn_by_inverse_layer_idx:
        raise ModelError(
            "this GPT-2 divides attention by the block's number (scale_attn_by_inverse_layer_idx), which a block that "
            "moves would change; take a small model that is not derived."
        )
    config = copy.deepcopy(config)
    config.n_layer = len(kept["decoder"])
    return config


GPT2 = Family(
    name="gpt2",
    model_types=("gpt2",),
    loader="AutoModelForCausalLM",
    stacks=(
        Stack(
            name="decoder",
            blocks="transformer.h",
            attentions={"attn": Attention("attn")},
            target_modules={
                "attn.q": TargetModule("attn.c_attn", reads="residual", writes="inner", part=0, parts=3),
                "attn.k": TargetModule("attn.c_attn", reads="residual", writes="inner", part=1, parts=3),
                "attn.v": TargetModule("attn.c_attn", reads="residual", writes="inner", part=2, parts=3),
                "attn.o": TargetModule("attn.c_proj", reads="inner", writes="residual"),
                "mlp.up": TargetModule("mlp.c_fc", reads="residual", writes="ffn"),
                "mlp.down": TargetModule("mlp.c_proj", reads="ffn", writes="residual"),
            },
            axes={
                "ln_1.weight": ("residual",),
                "ln_1.bias": ("residual",),
                "attn.c_attn.weight": ("residual", "3*inner"),
                "attn.c_attn.bias": ("3*inner",),
                "attn.c_proj.weight": ("inner", "residual"),
                "attn.c_proj.bias": ("residual",),
                "ln_2.weight": ("residual",),
                "ln_2.bias": ("residual",),
                "mlp.c_fc.weight": ("residual", "ffn"),
                "mlp.c_fc.bias": ("ffn",),
                "mlp.c_proj.weight": ("ffn", "residual"),
                "mlp.c_proj.bias": ("residual",),
            },
        ),
    ),
    run=run_decoder("transformer"),
    positioned="transformer",
    outer_axes={
        "transformer.wte.weight": ("-", "residual"),
        "transformer.wpe.weight": ("-", "residual"),
        "transformer.ln_f.weight": ("residual",),
        "transformer.ln_f.bias": ("residual",),
    },
    embeddings="transformer.wte",
    dropouts=("resid_pdrop", "embd_pdrop", "attn_pdrop"),
    dims=_dims,
    resized=_resized,
    thinned=_thinned,
)
