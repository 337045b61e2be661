"""Compares the changes that two modules make to a model's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.errors import ModuleError
from gfpet.lm.families import stack_of
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Predictions
from gfpet.similarity._grid import Block


@dataclass(frozen=True)
class Alike:
    """Comparison of two changes."""

    cosine: float | None
    """None if either change is zero."""
    size: float | None
    """Ratio of the first norm to the second; None if the second change is zero."""


def answer_change(after: Predictions, before: Predictions) -> Float[Tensor, " candidates"]:
    """The change of the candidates' scores, of all examples together.

    The mean over each example's candidates is subtracted: adding a constant to all of them changes no answer.
    """
    changes = [
        torch.tensor(new, dtype=torch.float64) - torch.tensor(old, dtype=torch.float64)
        for new, old in zip(after.scores, before.scores, strict=True)
    ]
    return torch.cat([change - change.mean() for change in changes])


def alike(change: Tensor, other: Tensor) -> Alike:
    """Compare two changes of equal shape."""
    one, two = change.double().flatten(), other.double().flatten()
    norm, beside = float(one.norm()), float(two.norm())
    cosine = float(one @ two) / (norm * beside) if norm > 0 and beside > 0 else None
    return Alike(cosine, norm / beside if beside > 0 else None)


def at_blocks(module: PetModule, blocks: Sequence[Block]) -> PetModule:
    """The part of a module in the given blocks.

    Raises:
        ModuleError: the module lacks one of them.
    """
    places: dict[str, list[int]] = {}
    for stack, layer in blocks:
        if layer not in module.layers.get(stack, ()):
            raise ModuleError(f"the module does not sit in block {layer} of stack '{stack}'.")
        places.setdefault(stack, []).append(module.layers[stack].index(layer))
    layers = {stack: tuple(module.layers[stack][place] for place in own) for stack, own in places.items()}
    tensors = {
        name: tensor[places[stack]] for name, tensor in module.tensors.items() if (stack := stack_of(name)) in places
    }
    return PetModule(module.kind, module.family, layers, tensors, module.scale)
