"""Prefix tuning (Li and Liang 2021, arXiv:2101.00190): p keys and values before those of the text, in every attention.

A custom attention function adds them. A key-value cache would not do, because gradient checkpointing silently drops
it. Text positions shift by p, and a position bias is that of a cache of p tokens, so that the same weights give the
same logits in Hugging Face `peft`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from gfpet.errors import ModuleError
from gfpet.lm.activations import captured
from gfpet.lm.families import Family, Texts, stack_of
from gfpet.lm.hooks import forward_pre_hook
from gfpet.lm.modules._kind import Kind, Options, Part, Update, by_block, layers_at, shapes_of, split_name
from gfpet.lm.modules._module import PetModule

_ATTENTION = "gfpet_prefix"
_SLOT = "gfpet_prefix"

_Slot = tuple[Tensor, Tensor, Callable[[int, int], Tensor] | None]
"""Keys and values `[p, kv]`, and a function from query length and p to the prefix's position bias, if it has one."""


def _targets(family: Family, _: Options) -> tuple[str, ...]:
    return tuple(f"{name}.{part}" for name in family.attentions for part in ("k", "v"))


def _start(model: nn.Module, family: Family, options: Options, texts: Texts, _: torch.Generator) -> PetModule:
    """A prefix initialised with the keys and values of the text's first tokens; a random start trains badly.

    Shapes: `<attention>.k.prefix`, `<attention>.v.prefix` `[n, length, kv_heads * head_width]`.

    Raises:
        ModuleError: the text is shorter than the prefix.
    """
    targets, length = _targets(family, options), options["length"]
    with torch.no_grad(), captured(model, family, [f"{target}.out" for target in targets]) as found:
        family.run(model, texts)
    tensors: dict[str, Tensor] = {}
    for target in targets:
        states = torch.stack([layer[0] for layer in found[f"{target}.out"]])
        if states.shape[1] < length:
            raise ModuleError(
                f"the text that a prefix starts from has {states.shape[1]} tokens; modules.prefix.length={length}."
            )
        tensors[f"{target}.prefix"] = states[:, :length].clone()
    return PetModule("prefix", family.name, layers_at(family, model, targets), tensors)


def _options_of(module: PetModule) -> Options:
    return {"length": shapes_of(module)["prefix"][1]}


def _updates(tensors: Mapping[str, Tensor]) -> dict[str, Update]:
    """For each attention, `U = Kᵀ` and `V = V`: a prefix resembles an adapter with the keys as down-projection and the
    values as up-projection (He et al. 2022, arXiv:2110.04366). The product ignores the order of the vectors."""
    attentions = sorted({split_name(name)[0].rpartition(".")[0] for name in tensors})
    return {name: (tensors[f"{name}.k.prefix"].T, tensors[f"{name}.v.prefix"]) for name in attentions}


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention; the prefix of this attention, if any, comes before the text's keys and values."""
    slot: _Slot | None = getattr(module, _SLOT, None)
    if slot is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    batch, heads, length, width = key.shape
    before = [part.view(-1, heads, width).transpose(0, 1).expand(batch, -1, -1, -1) for part in slot[:2]]
    p = before[0].shape[2]
    if attention_mask is None:
        text = torch.ones(query.shape[2], length, dtype=torch.bool, device=key.device)
        if getattr(module, "is_causal", True):
            text = text.tril(length - query.shape[2])
        attention_mask = text[None, None]
    seen = torch.ones(*attention_mask.shape[:-1], p, dtype=torch.bool, device=key.device)
    if attention_mask.dtype != torch.bool:
        seen = torch.zeros_like(seen, dtype=attention_mask.dtype)
    bias = kwargs.get("position_bias")
    if bias is not None:
        own = bias.new_zeros(*bias.shape[:-1], p) if slot[2] is None else slot[2](query.shape[2], p)
        kwargs = {**kwargs, "position_bias": torch.cat([own.to(bias.dtype), bias], dim=-1)}
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


def _slots(model: nn.Module, family: Family, module: PetModule) -> Iterator[tuple[nn.Module, _Slot]]:
    """Each attention that gets a prefix, with its slot."""
    attentions = {name: family.attentions_of(model, name) for name in family.attentions}
    for stack, layer, tensors in by_block(module):
        for name, modules in attentions.items():
            if stack_of(name) != stack or f"{name}.k.prefix" not in tensors:
                continue
            make, first = family.attentions[name].prefix_bias, modules[0]
            # The first block computes the bias of the whole stack.
            bias = None if make is None else _bind(make, first)
            yield modules[layer], (tensors[f"{name}.k.prefix"], tensors[f"{name}.v.prefix"], bias)


def _bind(make: Callable[[nn.Module, int, int], Tensor], first: nn.Module) -> Callable[[int, int], Tensor]:
    return lambda query, prefix: make(first, query, prefix)


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    attentions = [each for name in family.attentions for each in family.attentions_of(model, name)]
    # Each stack may have its own configuration.
    configs: list[Any] = list({id(each): each for each in (model.config, *(a.config for a in attentions))}.values())
    usual = [config._attn_implementation for config in configs]
    if _ATTENTION in usual:
        raise ModuleError("the model has a prefix already; take that out (close its context) before inserting another.")
    with ExitStack() as opened:
        if family.positioned is not None:
            shift = _shift_positions(next(iter(module.tensors.values())).shape[1])
            opened.enter_context(forward_pre_hook(model.get_submodule(family.positioned), shift))
        try:
            for config in configs:
                config._attn_implementation = _ATTENTION
            for attention, slot in _slots(model, family, module):
                setattr(attention, _SLOT, slot)
            yield
        finally:
            for config, name in zip(configs, usual, strict=True):
                config._attn_implementation = name
            for attention in attentions:
                attention.__dict__.pop(_SLOT, None)


PREFIX = Kind(
    name="prefix",
    parts={"prefix": Part(axis=2, direction="write")},
    targets=_targets,
    start=_start,
    options_of=_options_of,
    insert=_insert,
    updates=_updates,
)
