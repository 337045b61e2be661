"""T5 (Raffel et al. 2020, arXiv:1910.10683): version 1.0 (plain feed-forward, tied head) and 1.1 (gated, untied head).

As in pretraining with span corruption, the encoder reads the context and a sentinel in place of the answer, and the
decoder repeats the sentinel before the answer:

    encoder   c c c c <extra_id_0> </s>
    decoder   <start> <extra_id_0> candidate

If the tokenizer has no sentinels, the template omits them. T5's attention has no factor 1/√d. The first block of each
stack learns the relative position bias, and all its blocks use it, so a stack has one set of heads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from gfpet.errors import ModelError
from gfpet.lm.families._dims import Dims, StackDims
from gfpet.lm.families._family import Attention, Family, Stack, TargetModule
from gfpet.lm.families._texts import Template, Texts

_SENTINEL = "<extra_id_0>"


def _run(model: nn.Module, texts: Texts) -> Tensor:
    whole: Any = model
    source, target = texts["encoder"], texts["decoder"]
    is_real = source.is_real
    encoded = whole.encoder(input_ids=source.ids, attention_mask=is_real).last_hidden_state
    output = whole.decoder(
        input_ids=target.ids, encoder_hidden_states=encoded, encoder_attention_mask=is_real, use_cache=False
    )
    states: Tensor = output.last_hidden_state
    # As in T5ForConditionalGeneration before its head.
    return states * whole.config.d_model**-0.5 if whole.config.scale_decoder_outputs else states


def _template(config: T5Config, tokenizer: Any) -> Template:
    start = tokenizer.pad_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
    vocabulary = tokenizer.get_vocab()
    sentinel = (vocabulary[_SENTINEL],) if _SENTINEL in vocabulary else ()
    return Template(source_end=(*sentinel, tokenizer.eos_token_id), start=(start, *sentinel))


def _dims(config: T5Config) -> Dims:
    def stack(layers: int) -> StackDims:
        return StackDims(layers, config.num_heads, config.num_heads, config.d_kv, config.d_ff)

    decoder_layers = config.num_decoder_layers or config.num_layers
    return Dims(config.d_model, {"encoder": stack(config.num_layers), "decoder": stack(decoder_layers)})


def _resized(config: T5Config, dims: Dims) -> nn.Module:
    encoder, decoder = dims.stacks["encoder"], dims.stacks["decoder"]
    if replace(encoder, layers=0) != replace(decoder, layers=0):
        raise ModelError(f"a T5 has one size for both stacks but for their depths; asked for {encoder} and {decoder}.")
    config = copy.deepcopy(config)
    config.update({"d_model": dims.width, "d_kv": encoder.head_width, "d_ff": encoder.ffn, "num_heads": encoder.heads})
    config.update({"num_layers": encoder.layers, "num_decoder_layers": decoder.layers})
    model = T5ForConditionalGeneration(config)
    if not config.scale_decoder_outputs:
        # transformers ties the head of every new T5; version 1.1 has an untied head.
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    return model


def _thinned(config: T5Config, kept: Mapping[str, Sequence[int]]) -> T5Config:
    config = copy.deepcopy(config)
    config.update({"num_layers": len(kept["encoder"]), "num_decoder_layers": len(kept["decoder"])})
    return config


def _prefix_bias(first: nn.Module, query: int, prefix: int) -> Tensor:
    """The bias of a cache of `prefix` tokens: the text's positions begin after the prefix."""
    attention: Any = first
    bias: Tensor = attention.compute_bias(query, prefix, past_seen_tokens=prefix)
    return bias


def _attention_targets(name: str, path: str, prefix: str, positions: str | None) -> dict[str, TargetModule]:
    return {
        f"{name}.q": TargetModule(f"{path}.q", reads="residual", writes=f"{prefix}inner"),
        f"{name}.k": TargetModule(f"{path}.k", reads="residual", writes=f"{prefix}kv", positions=positions),
        f"{name}.v": TargetModule(f"{path}.v", reads="residual", writes=f"{prefix}kv", positions=positions),
        f"{name}.o": TargetModule(f"{path}.o", reads=f"{prefix}inner", writes="residual"),
    }


def _attention_axes(path: str, prefix: str) -> dict[str, tuple[str, ...]]:
    # nn.Linear stores `[out, in]`.
    return {
        f"{path}.q.weight": (f"{prefix}inner", "residual"),
        f"{path}.k.weight": (f"{prefix}kv", "residual"),
        f"{path}.v.weight": (f"{prefix}kv", "residual"),
        f"{path}.o.weight": ("residual", f"{prefix}inner"),
    }


def _stack(name: str, *, gated: bool) -> Stack:
    own, cross = "layer.0.SelfAttention", "layer.1.EncDecAttention"
    last = 2 if name == "decoder" else 1
    ffn = f"layer.{last}.DenseReluDense"
    ups = {"mlp.gate": f"{ffn}.wi_0", "mlp.up": f"{ffn}.wi_1"} if gated else {"mlp.up": f"{ffn}.wi"}
    attentions = {"attn": Attention(own, prefix_bias=_prefix_bias)}
    target_modules = _attention_targets("attn", own, "", None)
    axes = _attention_axes(own, "") | {f"{own}.relative_attention_bias.weight": ("-", "heads")}
    if name == "decoder":
        attentions["cross"] = Attention(cross)
        target_modules |= _attention_targets("cross", cross, "cross_", "encoder")
        axes |= _attention_axes(cross, "cross_")
    target_modules |= {target: TargetModule(path, reads="residual", writes="ffn") for target, path in ups.items()}
    target_modules["mlp.down"] = TargetModule(f"{ffn}.wo", reads="ffn", writes="residual")
    axes |= {f"{path}.weight": ("ffn", "residual") for path in ups.values()}
    axes[f"{ffn}.wo.weight"] = ("residual", "ffn")
    axes |= {f"layer.{number}.layer_norm.weight": ("residual",) for number in range(last + 1)}
    return Stack(name, f"{name}.block", attentions, target_modules, axes, shared_heads=True)


def _stacks(*, gated: bool) -> tuple[Stack, ...]:
    return tuple(_stack(name, gated=gated) for name in ("encoder", "decoder"))


def _variant(config: T5Config) -> Family:
    return _GATED if config.is_gated_act else T5


T5 = Family(
    name="t5",
    model_types=("t5",),
    loader="AutoModelForSeq2SeqLM",
    stacks=_stacks(gated=False),
    run=_run,
    outer_axes={
        "shared.weight": ("-", "residual"),
        "lm_head.weight": ("-", "residual"),
        "encoder.final_layer_norm.weight": ("residual",),
        "decoder.final_layer_norm.weight": ("residual",),
    },
    embeddings="encoder.embed_tokens",
    dropouts=("dropout_rate",),
    dims=_dims,
    resized=_resized,
    thinned=_thinned,
    template=_template,
    variant=_variant,
)
_GATED = replace(T5, stacks=_stacks(gated=True))
