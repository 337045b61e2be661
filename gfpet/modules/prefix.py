"""Prefix tuning (Li and Liang 2021, arXiv:2101.00190): p keys and values before those of the text, in every attention.

They enter through an attention function of our own rather than through a cache, which gradient checkpointing would
drop without a word. Positions of the text are shifted by p, as a cache of p tokens would, so that the same weights give
the same logits in Hugging Face `peft`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gfpet.errors import ModuleError
from gfpet.families import Family
from gfpet.modules._hooks import forward_pre_hook
from gfpet.modules._kind import Kind, Part, by_layer
from gfpet.modules._module import PetModule

_KEY, _VALUE = "attn.k.prefix", "attn.v.prefix"
_ATTENTION = "gfpet_prefix"
_SLOT = "gfpet_prefix"


def start_prefix(family: Family, *, length: int, keys: Tensor, values: Tensor) -> PetModule:
    """A prefix that starts as the keys and values of real text; random starts train badly.

    Shapes: `attn.k.prefix`, `attn.v.prefix` `[n, length, heads * head_width]`.

    Args:
        keys: `[n, t, heads * head_width]` of some text, t ≥ length; likewise `values`.

    Raises:
        ModuleError: the text is shorter than the prefix.
    """
    if keys.shape[1] < length:
        raise ModuleError(
            f"the text that a prefix starts from has {keys.shape[1]} tokens; modules.prefix.length={length}."
        )
    tensors = {_KEY: keys[:, :length].clone(), _VALUE: values[:, :length].clone()}
    return PetModule("prefix", family.name, tuple(range(keys.shape[0])), tensors)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention with the module's prefix, if it has one, before the text's keys and values."""
    prefix: tuple[Tensor, Tensor] | None = getattr(module, _SLOT, None)
    if prefix is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    batch, heads, length, width = key.shape
    before = [part.view(-1, heads, width).transpose(0, 1).expand(batch, -1, -1, -1) for part in prefix]
    p = before[0].shape[2]
    if attention_mask is None:
        text = torch.ones(query.shape[2], length, dtype=torch.bool, device=key.device).tril(length - query.shape[2])
        attention_mask = text[None, None]
    seen = torch.ones(*attention_mask.shape[:-1], p, dtype=torch.bool, device=key.device)
    if attention_mask.dtype != torch.bool:
        seen = torch.zeros_like(seen, dtype=attention_mask.dtype)
    return sdpa_attention_forward(
        module,
        query,
        torch.cat([before[0].to(key.dtype), key], dim=2),
        torch.cat([before[1].to(value.dtype), value], dim=2),
        torch.cat([seen, attention_mask], dim=-1),
        **kwargs,
    )


def _shift_positions(by: int) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positions = kwargs.get("position_ids")
        if positions is None:
            raise ModuleError("a model with a prefix needs explicit position_ids, so that they can be shifted.")
        return args, {**kwargs, "position_ids": positions + by}

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    attentions = family.attentions_of(model)
    config: Any = model.config
    usual = config._attn_implementation
    if usual == _ATTENTION:
        raise ModuleError("the model has a prefix already; take that out (close its context) before inserting another.")
    with ExitStack() as stack:
        shift = _shift_positions(module.tensors[_KEY].shape[1])
        stack.enter_context(forward_pre_hook(family.trunk_of(model), shift))
        try:
            config._attn_implementation = _ATTENTION
            for layer, tensors in zip(module.layers, by_layer(module), strict=True):
                setattr(attentions[layer], _SLOT, (tensors[_KEY], tensors[_VALUE]))
            yield
        finally:
            config._attn_implementation = usual
            for attention in attentions:
                attention.__dict__.pop(_SLOT, None)


PREFIX = Kind(
    name="prefix",
    parts={"prefix": Part(axis=2, direction="write")},
    insert=_insert,
)
