"""Activations of a model: inputs and outputs of target modules, and the residual stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family, stack_of
from gfpet.lm.hooks import forward_hook, forward_pre_hook

Captured = dict[str, list[Tensor]]
"""Activations by space: entry l is that of block l, `[rows, length, d]`. A residual stream has blocks + 1 entries."""
Layers = Mapping[str, Collection[int]]
"""Block numbers, by stack."""


def residual_of(stack: str) -> str:
    """Space of a stack's residual stream: the input of every block, and the output of the last block."""
    return f"{stack}.residual"


Visit = Callable[[str, int, Tensor], None]
"""`visit(space, layer, states)`, states `[rows, length, d]`."""


@contextmanager
def captured(
    model: nn.Module, family: Family, spaces: Iterable[str], layers: Layers | None = None
) -> Iterator[Captured]:
    """While open, each forward pass stores the activations of the named spaces in the yielded dictionary.

    This holds all of them at once; `visited` passes them on one by one.

    Args:
        spaces: `<target>.in`, `<target>.out` or `<stack>.residual`.
        layers: only these blocks; the entries of other blocks stay empty tensors.

    Raises:
        ModelError: the family has no such target.
    """
    spaces = set(spaces)
    stacks = {space: stack_of(space) for space in spaces}
    depths = {stack: len(family.blocks_of(model, stack)) for stack in set(stacks.values())}
    found: Captured = {
        space: [torch.empty(0)] * (depths[stack] + (space == residual_of(stack))) for space, stack in stacks.items()
    }

    def keep(space: str, layer: int, states: Tensor) -> None:
        found[space][layer] = states

    with visited(model, family, spaces, keep, layers):
        yield found


@contextmanager
def visited(
    model: nn.Module, family: Family, spaces: Iterable[str], visit: Visit, layers: Layers | None = None
) -> Iterator[None]:
    """While open, each forward pass calls `visit` with the activations of the named spaces, and keeps none.

    Args:
        spaces: `<target>.in`, `<target>.out` or `<stack>.residual`.
        layers: only these blocks.

    Raises:
        ModelError: the family has no such target.
    """
    with ExitStack() as opened:
        for space in sorted(set(spaces)):
            stack = stack_of(space)
            blocks = family.blocks_of(model, stack)
            wanted = range(len(blocks) + 1) if layers is None else layers.get(stack, ())
            if space == residual_of(stack):
                for layer, block in enumerate(blocks):
                    if layer in wanted:
                        opened.enter_context(forward_pre_hook(block, _show_block_input(visit, space, layer)))
                if len(blocks) in wanted:
                    opened.enter_context(forward_hook(blocks[-1], _show_block_output(visit, space, len(blocks))))
                continue
            target_name, side = space.rsplit(".", 1)
            target = family.target(target_name)
            pick = _input if side == "in" else _part(target.part, target.parts)
            for layer, block in enumerate(blocks):
                if layer in wanted:
                    hook = _show(visit, space, layer, pick)
                    opened.enter_context(forward_hook(family.linear_at(block, target_name), hook))
        yield


def block_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The residual stream that a block gets, as its first argument or as `hidden_states`."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def _show_block_input(visit: Visit, space: str, layer: int) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        visit(space, layer, block_input(args, kwargs))

    return hook


def _show_block_output(visit: Visit, space: str, layer: int) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        visit(space, layer, output if isinstance(output, Tensor) else output[0])

    return hook


def _input(args: tuple[Any, ...], _: Tensor) -> Tensor:
    states: Tensor = args[0]
    return states


def _part(part: int, parts: int) -> Any:
    return lambda _, output: output.chunk(parts, dim=-1)[part]


def _show(visit: Visit, space: str, layer: int, pick: Any) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        visit(space, layer, pick(args, output))

    return hook
