"""Cuts blocks out of the large model. Every width stays, so a module of the small model fits the large one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from gfpet.errors import ModelError
from gfpet.lm.families import Family
from gfpet.lm.models import weight_named

Blocks = Mapping[str, Sequence[int]]
"""By stack, the blocks to keep, in rising order."""


def with_blocks(model: nn.Module, family: Family, kept: Blocks) -> nn.Module:
    """A copy of the model with the kept blocks only; float32, on the same device, frozen, in evaluation mode.

    Raises:
        ModelError: the family does not support fewer blocks (`Family.thinned`).
    """
    if family.thinned is None:
        raise ModelError(f"family {family.name} does not say how a model with fewer blocks is made of its models.")
    config = family.thinned(model.config, kept)
    with next(model.parameters()).device:  # built on the device: fake tensors cannot be moved there afterwards
        small = type(model)(config)
    for name in dict(model.named_parameters()).keys() - dict(small.named_parameters()).keys():
        # transformers ties the head of new T5 models, but some checkpoints have an untied one.
        if name in dict(small.named_parameters(remove_duplicate=False)) and name == _name_in_large(family, name, kept):
            path, _, last = name.rpartition(".")
            own = nn.Parameter(torch.empty_like(small.get_parameter(name)))
            setattr(small.get_submodule(path), last, own)
    with torch.no_grad():
        for name, target in small.named_parameters():
            target.copy_(weight_named(model, _name_in_large(family, name, kept)))
    return small.eval().requires_grad_(False)


def _name_in_large(family: Family, name: str, kept: Blocks) -> str:
    """The name in the large model of a weight of the small one."""
    for stack in family.stacks:
        prefix = stack.blocks + "."
        if name.startswith(prefix):
            layer, rest = name.removeprefix(prefix).split(".", 1)
            return f"{prefix}{kept[stack.name][int(layer)]}.{rest}"
    return name
