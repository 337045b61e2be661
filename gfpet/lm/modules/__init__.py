"""Parameter-efficient modules. `gfpet.lm.registry` lists the kinds; each kind has its own file here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family, stack_of
from gfpet.lm.modules._kind import Kind, Options, Part, Update, by_block, require_fit, split_name
from gfpet.lm.modules._module import PetModule
from gfpet.lm.registry import KINDS as _ENTRIES
from gfpet.lm.registry import load_entry

KINDS: dict[str, Kind] = {name: load_entry(entry) for name, entry in _ENTRIES.items()}
"""All kinds, by name."""


def inserted(model: nn.Module, family: Family, module: PetModule) -> AbstractContextManager[None]:
    """While open, the model's forward pass includes the module.

    Run a training step's backward pass inside the context too: gradient checkpointing repeats the forward pass.

    Raises:
        ModuleError: the module does not fit the model.
    """
    kind = KINDS[module.kind]
    require_fit(model, family, module, kind.parts)
    return kind.insert(model, family, module)


def trained_tensors(module: PetModule) -> dict[str, Tensor]:
    """The trainable tensors, by name."""
    parts = KINDS[module.kind].parts
    return {name: tensor for name, tensor in module.tensors.items() if parts[split_name(name)[1]].is_trained}


def scaled_by_block(module: PetModule, factors: Tensor) -> PetModule:
    """Scale each block's effect by a factor; a module of a kind that is not scalable stays unchanged.

    Args:
        factors: `[blocks]`, all stacks concatenated in the order of `module.layers`.
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


def targets_by_kind(family: Family, options: Mapping[str, Options]) -> dict[str, tuple[str, ...]]:
    """Full names of the target modules of each kind.

    Args:
        options: each kind's section of `modules` in params.yaml.

    Raises:
        ModelError: the family has no such target.
    """
    return {name: KINDS[name].targets(family, own) for name, own in options.items()}


__all__ = [
    "KINDS",
    "Kind",
    "Options",
    "Part",
    "PetModule",
    "Update",
    "by_block",
    "inserted",
    "scaled_by_block",
    "split_name",
    "targets_by_kind",
    "trained_tensors",
]
