"""Llama (Touvron et al. 2023, arXiv:2302.13971) and models of its architecture: Qwen2, Qwen3, Mistral, SmolLM2.

RMSNorm, rotary positions, grouped-query attention, SwiGLU. Qwen2 has biases on queries, keys and values; Qwen3 has a
norm on each query and key head. The tables below list these weights for all models, also for those without them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM

from gfpet.lm.families._dims import Dims, StackDims
from gfpet.lm.families._family import Attention, Family, Stack, TargetModule, run_decoder


def _dims(config: Any) -> Dims:
    decoder = StackDims(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        ffn=config.intermediate_size,
    )
    return Dims(config.hidden_size, {"decoder": decoder})


def _resized(config: Any, dims: Dims) -> nn.Module:
    of = dims.stacks["decoder"]
    config = _with_layers(config, range(of.layers))
    config.update(
        {
            "hidden_size": dims.width,
            "num_attention_heads": of.heads,
            "num_key_value_heads": of.kv_heads,
            "head_dim": of.head_width,
            "intermediate_size": of.ffn,
        }
    )
    model: nn.Module = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _thinned(config: Any, kept: Mapping[str, Sequence[int]]) -> Any:
    return _with_layers(config, kept["decoder"])


def _with_layers(config: Any, layers: Sequence[int]) -> Any:
    config = copy.deepcopy(config)
    # Qwen and Mistral list for each layer whether its attention uses a sliding window.
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        config.layer_types = [kinds[layer] for layer in layers]
    config.num_hidden_layers = len(layers)
    return config


LLAMA = Family(
    name="llama",
    model_types=("llama", "qwen2", "qwen3", "mistral"),
    loader="AutoModelForCausalLM",
    stacks=(
        Stack(
            name="decoder",
            blocks="model.layers",
            attentions={"attn": Attention("self_attn")},
            target_modules={
                "attn.q": TargetModule("self_attn.q_proj", reads="residual", writes="inner"),
                "attn.k": TargetModule("self_attn.k_proj", reads="residual", writes="kv"),
                "attn.v": TargetModule("self_attn.v_proj", reads="residual", writes="kv"),
                "attn.o": TargetModule("self_attn.o_proj", reads="inner", writes="residual"),
                "mlp.gate": TargetModule("mlp.gate_proj", reads="residual", writes="ffn"),
                "mlp.up": TargetModule("mlp.up_proj", reads="residual", writes="ffn"),
                "mlp.down": TargetModule("mlp.down_proj", reads="ffn", writes="residual"),
            },
            axes={
                "input_layernorm.weight": ("residual",),
                "self_attn.q_proj.weight": ("inner", "residual"),
                "self_attn.q_proj.bias": ("inner",),
                "self_attn.q_norm.weight": ("-",),
                "self_attn.k_proj.weight": ("kv", "residual"),
                "self_attn.k_proj.bias": ("kv",),
                "self_attn.k_norm.weight": ("-",),
                "self_attn.v_proj.weight": ("kv", "residual"),
                "self_attn.v_proj.bias": ("kv",),
                "self_attn.o_proj.weight": ("residual", "inner"),
                "self_attn.o_proj.bias": ("residual",),
                "post_attention_layernorm.weight": ("residual",),
                "mlp.gate_proj.weight": ("ffn", "residual"),
                "mlp.gate_proj.bias": ("ffn",),
                "mlp.up_proj.weight": ("ffn", "residual"),
                "mlp.up_proj.bias": ("ffn",),
                "mlp.down_proj.weight": ("residual", "ffn"),
                "mlp.down_proj.bias": ("residual",),
            },
        ),
    ),
    run=run_decoder("model"),
    positioned="model",
    outer_axes={
        "model.embed_tokens.weight": ("-", "residual"),
        "model.norm.weight": ("residual",),
        "lm_head.weight": ("-", "residual"),
    },
    embeddings="model.embed_tokens",
    dropouts=("attention_dropout",),
    dims=_dims,
    resized=_resized,
    thinned=_thinned,
)
