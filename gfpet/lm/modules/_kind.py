"""The interface of a kind of module, and helpers that all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfpet.errors import ModuleError
from gfpet.lm.families import EMBEDDINGS, Family, Texts, stack_of
from gfpet.lm.modules._module import PetModule

Options = Mapping[str, Any]
"""A kind's section of `modules` in params.yaml."""
Update = tuple[Tensor, Tensor]
"""`U [d_out, r]`, `V [r, d_in]`: a module's effect at one target, as the product `U V`."""


@dataclass(frozen=True)
class Part:
    """How one tensor of a kind relates to the model's activation spaces: the axis that `W_plug` acts on.

    A *read* axis is contracted with activations, so `Q [d_S, d_L]` maps it (`A_L = A Q`). A *write* axis adds to
    activations, so `P [d_L, d_S]` maps it (`B_L = P B`).
    """

    axis: int | None
    """The axis that lies in a space of the model (the layer axis is axis 0); None for inner tensors."""
    direction: Literal["read", "write", "inner"]
    side: Literal["in", "out"] = "out"
    """Whether that space is the target's input or its output."""
    is_update: bool = False
    """Whether the module's effect is linear in this tensor. Then k copies of it are each divided by k."""
    is_trained: bool = True
    """False for a tensor that keeps its initial values."""
    added_to: str | None = None
    """For an inner bias: the read part to whose product with the activations it is added. The bias absorbs what the
    offset of a centred map adds to that product."""


def _as_it_is(module: PetModule) -> PetModule:
    return module


@dataclass(frozen=True)
class Kind:
    """One kind of module. `gfpet.lm.registry` holds its options and all that code without torch needs."""

    name: str
    parts: Mapping[str, Part]
    """Keyed by the last component of a tensor's name (`A` of `attn.q.A`)."""
    targets: Callable[[Family, Options], tuple[str, ...]]
    """Full names of the target modules for these options.

    Raises ModelError if the family has no such target."""
    start: Callable[[nn.Module, Family, Options, Texts, torch.Generator], PetModule]
    """A new module for a model. Random values come from the generator. The texts hold one example of the task, one row
    per stack, for kinds that start from real text.

    Raises ModuleError if the options do not fit the model or the text."""
    options_of: Callable[[PetModule], Options]
    """The options that a module was made with."""
    insert: Callable[[nn.Module, Family, PetModule], AbstractContextManager[None]]
    """While open, the model's forward pass includes the module."""
    updates: Callable[[Mapping[str, Tensor]], Mapping[str, Update]]
    """From the tensors of one block: the module's update at each target, without `PetModule.scale`."""
    zero_at_start: str | None = None
    """The part that is initially zero, so that a new module has no effect and no direction; None if no part is."""
    folded: Callable[[PetModule], PetModule] = _as_it_is
    """The same module in the form that `W_plug` and `updates` take."""


def by_target(tensors: Mapping[str, Tensor], left: str, right: str) -> dict[str, Update]:
    """`Kind.updates` for a kind whose effect at a target is the product of two of its tensors."""
    return {
        target: (tensors[f"{target}.{left}"], tensors[f"{target}.{right}"])
        for target in sorted({split_name(name)[0] for name in tensors})
    }


def shapes_of(module: PetModule) -> dict[str, torch.Size]:
    """Shape of each part; if it differs between targets, that of one of them."""
    return {split_name(name)[1]: tensor.shape for name, tensor in module.tensors.items()}


def targets_of(module: PetModule) -> tuple[str, ...]:
    """Full names of a module's target modules."""
    return tuple(sorted({split_name(name)[0] for name in module.tensors}))


def layers_at(family: Family, model: nn.Module, targets: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`PetModule.layers` for a module at these targets in every block."""
    stacks = set(map(stack_of, targets))
    return {stack: tuple(range(depth)) for stack, depth in family.depths_of(model).items() if stack in stacks}


def split_name(name: str) -> tuple[str, str]:
    """`attn.q.A` to `("attn.q", "A")`."""
    target, part = name.rsplit(".", 1)
    return target, part


def by_block(module: PetModule) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
    """Stack, block and the block's tensors. Unbinds each tensor once, so that autograd records one node for it."""
    parts = {name: tensor.unbind(0) for name, tensor in module.tensors.items()}
    for stack, layers in module.layers.items():
        own = [name for name in parts if stack_of(name) == stack]
        for index, layer in enumerate(layers):
            yield stack, layer, {name: parts[name][index] for name in own}


def require_fit(model: nn.Module, family: Family, module: PetModule, parts: Mapping[str, Part]) -> None:
    """Raise unless the module fits the model's family and sizes.

    Raises:
        ModuleError: another family, a block that the model lacks, or a tensor of another width.
        ModelError: the family has no such target.
    """
    if module.family != family.name:
        raise ModuleError(f"the module is of family '{module.family}', the model of '{family.name}'.")
    depths = {**family.depths_of(model), EMBEDDINGS: 1}
    for stack, layers in module.layers.items():
        beyond = [layer for layer in layers if not 0 <= layer < depths.get(stack, 0)]
        if beyond:
            raise ModuleError(
                f"the module sits in {stack} block {beyond[0]}, but the model has {stack} blocks 0 to "
                f"{depths.get(stack, 0) - 1}; plug it."
            )
    for name, tensor in module.tensors.items():
        target, part_name = split_name(name)
        part = parts[part_name]
        if part.axis is None:
            continue
        d_in, d_out = family.target_widths(model, target)
        width = d_in if part.side == "in" else d_out
        if tensor.shape[part.axis] != width:
            raise ModuleError(
                f"module tensor '{name}' has width {tensor.shape[part.axis]}, but the model's is {width} there; "
                "a module of another model is carried over by gfpet.method.plug."
            )
