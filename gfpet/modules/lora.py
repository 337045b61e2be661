"""LoRA (Hu et al. 2021, arXiv:2106.09685): `y = x W + (x Aᵀ Bᵀ) · α/r` at linear maps; at the start B is zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.families import Family
from gfpet.modules._hooks import forward_hook
from gfpet.modules._kind import Kind, Part, by_layer
from gfpet.modules._module import PetModule


def start_lora(
    model: nn.Module, family: Family, *, rank: int, alpha: float, sites: Sequence[str], generator: torch.Generator
) -> PetModule:
    """A LoRA module that changes nothing yet.

    Shapes: `<site>.A [n, rank, d_in]`, uniform as in the paper's code (Kaiming, a = √5); `<site>.B [n, d_out, rank]`,
    zero.
    """
    depth = len(family.blocks_of(model))
    tensors: dict[str, Tensor] = {}
    for site in sites:
        d_in, d_out = family.site_widths(model, site)
        bound = 1 / math.sqrt(d_in)
        tensors[f"{site}.A"] = torch.empty(depth, rank, d_in).uniform_(-bound, bound, generator=generator)
        tensors[f"{site}.B"] = torch.zeros(depth, d_out, rank)
    return PetModule("lora", family.name, tuple(range(depth)), tensors, scale=alpha / rank)


def _adds(parts: dict[int, tuple[Tensor, Tensor]], count: int, scale: float) -> Callable[..., Tensor]:
    """A hook that adds the low-rank updates to the parts of a fused map's output `[..., count * d_out]`."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x = args[0]
        pieces = list(output.chunk(count, dim=-1))
        for index, (a, b) in parts.items():
            # Trained in float32, computed in the model's own type, as autocast would.
            pieces[index] = pieces[index] + (x @ a.to(x.dtype).T) @ b.to(x.dtype).T * scale
        return torch.cat(pieces, dim=-1) if count > 1 else pieces[0]

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    blocks = family.blocks_of(model)
    sites = sorted({name.rsplit(".", 1)[0] for name in module.tensors})
    with ExitStack() as stack:
        for layer, tensors in zip(module.layers, by_layer(module), strict=True):
            by_map: dict[str, dict[int, tuple[Tensor, Tensor]]] = {}
            for name in sites:
                site = family.site(name)
                by_map.setdefault(site.path, {})[site.part] = (tensors[f"{name}.A"], tensors[f"{name}.B"])
            for name in sites:
                site = family.site(name)
                if site.path in by_map:
                    hook = _adds(by_map.pop(site.path), site.parts, module.scale)
                    stack.enter_context(forward_hook(family.map_at(blocks[layer], name), hook))
        yield


LORA = Kind(
    name="lora",
    parts={"A": Part(axis=2, direction="read", side="in"), "B": Part(axis=1, direction="write", is_update=True)},
    insert=_insert,
)
