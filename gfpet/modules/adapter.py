"""Bottleneck adapter (Houlsby et al. 2019, arXiv:1902.00751): `h ← h + U φ(D h + b) + c` on a sublayer's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from gfpet.errors import ModuleError
from gfpet.families import Family, stack_of
from gfpet.modules._hooks import forward_hook
from gfpet.modules._kind import Kind, Part, by_block
from gfpet.modules._module import PetModule

# The paper starts near the identity: weights of this standard deviation, on both sides.
_START_STD = 1e-2


def start_adapter(
    model: nn.Module, family: Family, *, bottleneck: int, sites: Sequence[str], generator: torch.Generator
) -> PetModule:
    """An adapter module near the identity, at sites by their full names; φ is GELU.

    Shapes: `<site>.down [n, b, d]`, `<site>.down_bias [n, b]`, `<site>.up [n, d, b]`, `<site>.up_bias [n, d]`.

    Raises:
        ModuleError: a site is a part of a fused map, where an adapter has no place of its own.
    """
    depths = family.depths_of(model)
    tensors: dict[str, Tensor] = {}
    for site in sites:
        if family.site(site).parts != 1:
            whole = ", ".join(sorted(name for name, other in family.sites.items() if other.parts == 1))
            raise ModuleError(f"an adapter cannot sit at '{site}', a part of a fused map. Allowed sites: {whole}.")
        (_, width), depth = family.site_widths(model, site), depths[stack_of(site)]
        tensors[f"{site}.down"] = torch.randn(depth, bottleneck, width, generator=generator) * _START_STD
        tensors[f"{site}.down_bias"] = torch.zeros(depth, bottleneck)
        tensors[f"{site}.up"] = torch.randn(depth, width, bottleneck, generator=generator) * _START_STD
        tensors[f"{site}.up_bias"] = torch.zeros(depth, width)
    layers = {stack: tuple(range(depth)) for stack, depth in depths.items() if stack in map(stack_of, sites)}
    return PetModule("adapter", family.name, layers, tensors)


def _adds(down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor, scale: float) -> Callable[..., Tensor]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        # Trained in float32, computed in the model's own type, as autocast would.
        d, b, u, c = (part.to(output.dtype) for part in (down, down_bias, up, up_bias))
        return output + linear(gelu(linear(output, d, b)), u, c) * scale

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    blocks = {stack: family.blocks_of(model, stack) for stack in module.layers}
    with ExitStack() as opened:
        for stack, layer, tensors in by_block(module):
            for site in sorted({name.rsplit(".", 1)[0] for name in tensors}):
                down, down_bias, up, up_bias = (
                    tensors[f"{site}.{part}"] for part in ("down", "down_bias", "up", "up_bias")
                )
                hook = _adds(down, down_bias, up, up_bias, module.scale)
                opened.enter_context(forward_hook(family.map_at(blocks[stack][layer], site), hook))
        yield


ADAPTER = Kind(
    name="adapter",
    parts={
        "down": Part(axis=2, direction="read", side="out"),
        "down_bias": Part(axis=None, direction="inner"),
        "up": Part(axis=1, direction="write", is_update=True),
        "up_bias": Part(axis=1, direction="write", is_update=True),
    },
    insert=_insert,
)
