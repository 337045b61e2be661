"""LoRA (Hu et al. 2021, arXiv:2106.09685): `y = x W + (x Aᵀ Bᵀ) · α/r` at linear layers. B starts at zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family, Texts, stack_of
from gfpet.lm.hooks import forward_hook
from gfpet.lm.modules._kind import Kind, Options, Part, by_block, by_target, layers_at, shapes_of, targets_of
from gfpet.lm.modules._module import PetModule


def _targets(family: Family, options: Options) -> tuple[str, ...]:
    return family.expanded(options["target_modules"])


def _start(model: nn.Module, family: Family, options: Options, _: Texts, generator: torch.Generator) -> PetModule:
    """A LoRA module without effect yet.

    Shapes: `<target>.A [n, rank, d_in]`, uniform as in the paper's code (Kaiming, a = √5); `<target>.B [n, d_out,
    rank]`, zero.
    """
    targets, rank = _targets(family, options), options["rank"]
    layers = layers_at(family, model, targets)
    tensors: dict[str, Tensor] = {}
    for target in targets:
        d_in, d_out = family.target_widths(model, target)
        depth = len(layers[stack_of(target)])
        bound = 1 / math.sqrt(d_in)
        tensors[f"{target}.A"] = torch.empty(depth, rank, d_in).uniform_(-bound, bound, generator=generator)
        tensors[f"{target}.B"] = torch.zeros(depth, d_out, rank)
    return PetModule("lora", family.name, layers, tensors, scale=options["alpha"] / rank)


def _options_of(module: PetModule) -> Options:
    rank = shapes_of(module)["A"][1]
    return {"rank": rank, "alpha": module.scale * rank, "target_modules": targets_of(module)}


def _adds(parts: dict[int, tuple[Tensor, Tensor]], count: int, scale: float) -> Callable[..., Tensor]:
    """A hook that adds the low-rank updates to the parts of a linear layer's output `[..., count * d_out]`."""

    def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        x = args[0]
        pieces = list(output.chunk(count, dim=-1))
        for index, (a, b) in parts.items():
            # Parameters are float32; compute in the model's data type, as autocast does.
            pieces[index] = pieces[index] + (x @ a.to(x.dtype).T) @ b.to(x.dtype).T * scale
        return torch.cat(pieces, dim=-1) if count > 1 else pieces[0]

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    blocks = {stack: family.blocks_of(model, stack) for stack in module.layers}
    with ExitStack() as opened:
        for stack, layer, tensors in by_block(module):
            by_map: dict[tuple[str, int], dict[int, tuple[Tensor, Tensor]]] = {}
            for name in sorted({name.rsplit(".", 1)[0] for name in tensors}):
                target = family.target(name)
                parts = by_map.setdefault((target.path, target.parts), {})
                parts[target.part] = (tensors[f"{name}.A"], tensors[f"{name}.B"])
            for (path, count), parts in by_map.items():
                hook = _adds(parts, count, module.scale)
                opened.enter_context(forward_hook(blocks[stack][layer].get_submodule(path), hook))
        yield


LORA = Kind(
    name="lora",
    parts={"A": Part(axis=2, direction="read", side="in"), "B": Part(axis=1, direction="write", is_update=True)},
    targets=_targets,
    start=_start,
    options_of=_options_of,
    insert=_insert,
    updates=partial(by_target, left="B", right="A"),
    zero_at_start="B",
)
