"""What a kind of module is to the rest of gfpet."""

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
"""The section of a kind in `modules` of params.yaml."""
Update = tuple[Tensor, Tensor]
"""`U [d_out, r]`, `V [r, d_in]`: what a module does at one place, as the product `U V`."""


@dataclass(frozen=True)
class Part:
    """How one tensor of a kind meets the model's spaces: which axis a map to another model has to act on.

    A *read* axis is contracted with activations of the model, so it goes over with `Q [d_S, d_L]` (`A_L = A Q`); a
    *write* axis adds to activations, so it goes over with `P [d_L, d_S]` (`B_L = P B`).
    """

    axis: int | None
    """The axis (after the layer axis counted as 0) that lives in a space of the model; None for inner tensors."""
    direction: Literal["read", "write", "inner"]
    side: Literal["in", "out"] = "out"
    """Whether that space is the target's input or its output."""
    is_update: bool = False
    """Whether the module's effect is linear in this tensor, so that k copies of it are each divided by k."""
    is_trained: bool = True
    """False for what stays as it was drawn at the start."""
    added_to: str | None = None
    """Of an inner bias: the read part whose product with the activations it is added to. The bias takes up what the
    offset of a centred map would add to that product."""


def _as_it_is(module: PetModule) -> PetModule:
    return module


@dataclass(frozen=True)
class Kind:
    """One kind of module. Its name, its options and what code without torch needs stand in `gfpet.lm.registry`."""

    name: str
    parts: Mapping[str, Part]
    """By the last component of a tensor's name (`A` of `attn.q.A`)."""
    targets: Callable[[Family, Options], tuple[str, ...]]
    """Full names of the places where a module with these options sits.

    Raises ModelError if the family has no such target."""
    start: Callable[[nn.Module, Family, Options, Texts, torch.Generator], PetModule]
    """A new module for a model; what is random comes from the generator. The texts are one example of the task, one
    row for each stack, for kinds that start from real text.

    Raises ModuleError if the options do not fit the model or the text."""
    options_of: Callable[[PetModule], Options]
    """The options that a module was started with."""
    insert: Callable[[nn.Module, Family, PetModule], AbstractContextManager[None]]
    """Make the model's forward pass go through the module while the context is open."""
    updates: Callable[[Mapping[str, Tensor]], Mapping[str, Update]]
    """From the tensors of one block, what the module does there, by place; without `PetModule.scale`."""
    zero_at_start: str | None = None
    """The part that is zero at the start, so that a new module has neither effect nor direction; None if none is."""
    folded: Callable[[PetModule], PetModule] = _as_it_is
    """The same module in the form that maps to another model act on, and that `updates` takes."""


def by_target(tensors: Mapping[str, Tensor], left: str, right: str) -> dict[str, Update]:
    """`Kind.updates` of a kind whose effect at a target is the product of two of its tensors."""
    return {
        target: (tensors[f"{target}.{left}"], tensors[f"{target}.{right}"])
        for target in sorted({split_name(name)[0] for name in tensors})
    }


def shapes_of(module: PetModule) -> dict[str, torch.Size]:
    """Shape of each part; of parts that differ between targets, any one."""
    return {split_name(name)[1]: tensor.shape for name, tensor in module.tensors.items()}


def targets_of(module: PetModule) -> tuple[str, ...]:
    """Full names of the places where a module sits."""
    return tuple(sorted({split_name(name)[0] for name in module.tensors}))


def layers_at(family: Family, model: nn.Module, targets: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`PetModule.layers` of a module at these targets in every block."""
    stacks = set(map(stack_of, targets))
    return {stack: tuple(range(depth)) for stack, depth in family.depths_of(model).items() if stack in stacks}


def split_name(name: str) -> tuple[str, str]:
    """`attn.q.A` to `("attn.q", "A")`."""
    target, part = name.rsplit(".", 1)
    return target, part


def by_block(module: PetModule) -> Iterator[tuple[str, int, dict[str, Tensor]]]:
    """Stack, block and the tensors there; one unbind per tensor, so that autograd sees one node each."""
    parts = {name: tensor.unbind(0) for name, tensor in module.tensors.items()}
    for stack, layers in module.layers.items():
        own = [name for name in parts if stack_of(name) == stack]
        for index, layer in enumerate(layers):
            yield stack, layer, {name: parts[name][index] for name in own}


def require_fit(model: nn.Module, family: Family, module: PetModule, parts: Mapping[str, Part]) -> None:
    """Raise unless the module was made for a model of these sizes.

    Raises:
        ModuleError: another family, a block that the model does not have, or a tensor of another width.
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
