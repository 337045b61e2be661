"""Parameter-efficient modules: LoRA, bottleneck adapter, prefix."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family, stack_of
from gfpet.lm.modules._kind import Kind, Part, by_block, require_fit, split_name
from gfpet.lm.modules._module import KindName, PetModule
from gfpet.lm.modules.adapter import ADAPTER, start_adapter
from gfpet.lm.modules.lora import LORA, start_lora
from gfpet.lm.modules.prefix import PREFIX, start_prefix

KINDS: dict[str, Kind] = {kind.name: kind for kind in (LORA, ADAPTER, PREFIX)}


def inserted(model: nn.Module, family: Family, module: PetModule) -> AbstractContextManager[None]:
    """While the context is open, the model's forward pass goes through the module.

    A training step's backward pass belongs inside the context too: gradient checkpointing runs the forward again.

    Raises:
        ModuleError: the module does not fit the model.
    """
    kind = KINDS[module.kind]
    require_fit(model, family, module, kind.parts)
    return kind.insert(model, family, module)


def scaled_by_block(module: PetModule, factors: Tensor) -> PetModule:
    """The module with each block's effect times a factor; a prefix has no such effect and stays as it is.

    Args:
        factors: `[blocks]`, of all stacks one after the other, in the order of `module.layers`.
    """
    own = torch.split(factors, [len(blocks) for blocks in module.layers.values()])
    by_stack = dict(zip(module.layers, own, strict=True))
    tensors = {}
    for name, tensor in module.tensors.items():
        if KINDS[module.kind].parts[split_name(name)[1]].is_update:
            of_blocks = by_stack[stack_of(name)].to(tensor)
            tensor = tensor * of_blocks.view(-1, *(1,) * (tensor.dim() - 1))
        tensors[name] = tensor
    return module.with_tensors(tensors)


def targets_by_kind(
    family: Family, kinds: Iterable[str], *, lora: Iterable[str], adapter: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """Full names of the target modules where modules of these kinds sit, by kind; a prefix sits in every attention.

    Args:
        lora: target_modules as `modules` of params.yaml names them; likewise `adapter`.

    Raises:
        ModelError: the family has no such target.
    """
    targets = {
        "lora": family.expanded(lora),
        "adapter": family.expanded(adapter),
        "prefix": tuple(f"{name}.{part}" for name in family.attentions for part in ("k", "v")),
    }
    return {kind: targets[kind] for kind in kinds}


__all__ = [
    "KINDS",
    "Kind",
    "KindName",
    "Part",
    "PetModule",
    "by_block",
    "inserted",
    "scaled_by_block",
    "split_name",
    "start_adapter",
    "start_lora",
    "start_prefix",
    "targets_by_kind",
]
