"""`W_plug` without a fit: the identity, for models of equal widths such as a derived small model and its source."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from gfpet.errors import ConfigError
from gfpet.lm.families import stack_of
from gfpet.lm.models import LoadedModel
from gfpet.method.plug import LayerAssignment, Projection


def identity_maps(
    small: LoadedModel, large: LoadedModel, pairs: LayerAssignment, *, reads: Collection[str], writes: Collection[str]
) -> Projection:
    """An identity for every pair of layers and every space, in the form that `fit_maps` returns.

    Raises:
        ConfigError: the two models differ in the width of a space.
    """
    named: dict[str, Tensor] = {}
    for direction, spaces in (("reads", reads), ("writes", writes)):
        for space in sorted(spaces):
            target, side = space.rsplit(".", 1)
            ours, theirs = (
                each.family.target_widths(each.model, target)[0 if side == "in" else 1] for each in (small, large)
            )
            if ours != theirs:
                raise ConfigError(
                    f"align.method is 'identity', but '{space}' is {ours} wide in {small.name} and {theirs} in "
                    f"{large.name}. Set align.method to ridge or procrustes, or derive the small model from the large "
                    "one (models.<family>.small.path: derive), which keeps every width."
                )
            named[f"{direction}/{space}"] = torch.eye(ours).repeat(len(pairs[stack_of(space)]), 1, 1)
    return Projection.of(named)
