"""What flows through a model: inputs and outputs of sites, and the residual stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.families import Family, stack_of
from gfpet.modules._hooks import forward_hook, forward_pre_hook

Captured = dict[str, list[Tensor]]
"""By space; entry l is of block l, `[rows, length, d]`. A residual stream has one entry more than blocks."""


def residual_of(stack: str) -> str:
    """Space of a stack's residual stream: the input of every block, and the output of the last."""
    return f"{stack}.residual"


@contextmanager
def captured(model: nn.Module, family: Family, spaces: Iterable[str]) -> Iterator[Captured]:
    """While open, each forward pass leaves the activations of the named spaces in the dictionary that is yielded.

    Args:
        spaces: `<site>.in`, `<site>.out` or `<stack>.residual`.

    Raises:
        ModelError: the family has no such site.
    """
    found: Captured = {}
    with ExitStack() as opened:
        for space in sorted(set(spaces)):
            blocks = family.blocks_of(model, stack_of(space))
            if space == residual_of(stack_of(space)):
                found[space] = [torch.empty(0)] * (len(blocks) + 1)
                for layer, block in enumerate(blocks):
                    opened.enter_context(forward_pre_hook(block, _keep_block_input(found[space], layer)))
                opened.enter_context(forward_hook(blocks[-1], _keep_block_output(found[space], len(blocks))))
                continue
            site_name, side = space.rsplit(".", 1)
            site = family.site(site_name)
            found[space] = [torch.empty(0)] * len(blocks)
            for layer, block in enumerate(blocks):
                hook = _keep_input if side == "in" else _keep_part(site.part, site.parts)
                opened.enter_context(forward_hook(family.map_at(block, site_name), _into(found[space], layer, hook)))
        yield found


def block_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The residual stream that a block is called with, by position or by name."""
    states: Tensor = args[0] if args else kwargs["hidden_states"]
    return states


def _keep_block_input(kept: list[Tensor], layer: int) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        kept[layer] = block_input(args, kwargs)

    return hook


def _keep_block_output(kept: list[Tensor], layer: int) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        kept[layer] = output if isinstance(output, Tensor) else output[0]

    return hook


def _keep_input(args: tuple[Any, ...], _: Tensor) -> Tensor:
    states: Tensor = args[0]
    return states


def _keep_part(part: int, parts: int) -> Any:
    return lambda _, output: output.chunk(parts, dim=-1)[part]


def _into(kept: list[Tensor], layer: int, pick: Any) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        kept[layer] = pick(args, output)

    return hook
