"""Bottleneck adapter (Houlsby et al. 2019, arXiv:1902.00751): `h ← h + U φ(D h + b) + c` on a sublayer's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from gfpet.errors import ModuleError
from gfpet.lm.families import Family, Texts, stack_of
from gfpet.lm.hooks import forward_hook
from gfpet.lm.modules._kind import Kind, Options, Part, by_block, by_target, layers_at, shapes_of, targets_of
from gfpet.lm.modules._module import PetModule

# The paper starts near the identity: both weight matrices have this standard deviation.
_START_STD = 1e-2


def _targets(family: Family, options: Options) -> tuple[str, ...]:
    return family.expanded(options["target_modules"])


def _start(model: nn.Module, family: Family, options: Options, _: Texts, generator: torch.Generator) -> PetModule:
    """An adapter module near the identity; φ is GELU.

    Shapes: `<target>.down [n, b, d]`, `<target>.down_bias [n, b]`, `<target>.up [n, d, b]`, `<target>.up_bias [n, d]`.

    Raises:
        ModuleError: a target is part of a fused linear layer; an adapter needs a whole one.
    """
    targets, bottleneck = _targets(family, options), options["bottleneck"]
    layers = layers_at(family, model, targets)
    tensors: dict[str, Tensor] = {}
    for target in targets:
        if family.target(target).parts != 1:
            whole = ", ".join(sorted(name for name, other in family.target_modules.items() if other.parts == 1))
            raise ModuleError(
                f"an adapter cannot sit at '{target}', a part of a fused map. Allowed target modules: {whole}."
            )
        width, depth = family.target_widths(model, target)[1], len(layers[stack_of(target)])
        tensors[f"{target}.down"] = torch.randn(depth, bottleneck, width, generator=generator) * _START_STD
        tensors[f"{target}.down_bias"] = torch.zeros(depth, bottleneck)
        tensors[f"{target}.up"] = torch.randn(depth, width, bottleneck, generator=generator) * _START_STD
        tensors[f"{target}.up_bias"] = torch.zeros(depth, width)
    return PetModule("adapter", family.name, layers, tensors)


def _options_of(module: PetModule) -> Options:
    return {"bottleneck": shapes_of(module)["down"][1], "target_modules": targets_of(module)}


def _adds(down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor, scale: float) -> Callable[..., Tensor]:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> Tensor:
        # Parameters are float32; compute in the model's data type, as autocast does.
        d, b, u, c = (part.to(output.dtype) for part in (down, down_bias, up, up_bias))
        return output + linear(gelu(linear(output, d, b)), u, c) * scale

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    blocks = {stack: family.blocks_of(model, stack) for stack in module.layers}
    with ExitStack() as opened:
        for stack, layer, tensors in by_block(module):
            for target in sorted({name.rsplit(".", 1)[0] for name in tensors}):
                down, down_bias, up, up_bias = (
                    tensors[f"{target}.{part}"] for part in ("down", "down_bias", "up", "up_bias")
                )
                hook = _adds(down, down_bias, up, up_bias, module.scale)
                opened.enter_context(forward_hook(family.linear_at(blocks[stack][layer], target), hook))
        yield


ADAPTER = Kind(
    name="adapter",
    parts={
        "down": Part(axis=2, direction="read", side="out"),
        "down_bias": Part(axis=None, direction="inner", added_to="down"),
        "up": Part(axis=1, direction="write", is_update=True),
        "up_bias": Part(axis=1, direction="write", is_update=True),
    },
    targets=_targets,
    start=_start,
    options_of=_options_of,
    insert=_insert,
    updates=partial(by_target, left="up", right="down"),  # its linearisation
)
