"""Importance of the large model's coordinates: residual coordinates, heads, feed-forward units.

Every weight of every linear layer gets a value; a coordinate's importance is the sum over its weights.

- `activation` (default; as Wanda, Sun et al. 2023, arXiv:2306.11695): |W|·‖x‖, ‖x‖ from forward passes only.
- `magnitude`: |W|.
- `fisher` [the paper]: mean squared gradient of log p(y|x). Unlike the others, it needs gradients of the large model.

The values of each linear layer are normalised before they are added, so that its scale alone has no influence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfpet.lm.activations import visited
from gfpet.lm.families import Family, stack_of
from gfpet.lm.models import FrozenModel, outputs_first, plain_weight
from gfpet.lm.scoring import Batch, backbone_of, candidate_scores, ranking_loss
from gfpet.memory import Step, no_step


@dataclass(frozen=True)
class StackImportance:
    """Importance of one stack's own coordinates, block by block."""

    heads: Float[Tensor, "n kv_heads"]
    """Key/value heads of `attn`, each with all its query heads."""
    ffn: Float[Tensor, "n ffn"]
    cross_heads: Float[Tensor, "n kv_heads"] | None = None
    """Key/value heads of `cross`; None without cross-attention."""


@dataclass(frozen=True)
class Importance:
    """Importance of the prunable coordinates; float64, on the CPU."""

    residual: Float[Tensor, " d"]
    """One set for all stacks: every block reads and writes the same coordinates."""
    stacks: Mapping[str, StackImportance]


def magnitude_importance(model: nn.Module, family: Family) -> Importance:
    """Importance from the weights alone."""
    return _importance(model, family, lambda layer, name: _weight(model, family, layer, name).detach().abs())


def activation_importance(
    large: FrozenModel, family: Family, batches: Iterable[Batch], step: Step = no_step
) -> Importance:
    """Importance from the weights and the norms of their inputs; forward passes only."""
    names = _one_target_per_linear(family)
    squares: dict[tuple[str, int], Tensor] = {}
    lengths: dict[str, tuple[int, ...]] = {}

    def add(space: str, layer: int, states: Tensor) -> None:
        # Row by row: the float64 squares of a whole batch would raise the peak memory.
        for row, length in zip(states, lengths[family.text_of(space)], strict=True):
            new = row[:length].double().square_().sum(0)
            key = (space.removesuffix(".in"), layer)
            squares[key] = squares[key] + new if key in squares else new

    with large.forward_only() as model, visited(model, family, [f"{name}.in" for name in names], add):
        backbone = backbone_of(model, family)
        for batch in batches:
            lengths.update({stack: text.lengths for stack, text in batch.texts.items()})
            with step(batch.size):
                backbone(batch)
        # The memory of this step depends on the largest linear layer, not on the text.
        with step(max(math.prod(family.target_widths(model, name)) for name in names)):
            return _importance(
                model,
                family,
                lambda layer, name: _weight(model, family, layer, name).abs() * squares[name, layer].sqrt()[:, None],
            )


def fisher_importance(
    model: nn.Module, family: Family, head: Tensor, batches: Iterable[Batch], step: Step = no_step
) -> Importance:
    """Importance from squared gradients of the correct answers' log-likelihood; each batch should hold one example.

    The model's linear weights require gradients while this runs, and not afterwards.
    """
    names = _one_target_per_linear(family)
    maps = {name: family.linears_of(model, name) for name in names}
    keys = [(layer, name) for name in names for layer in range(len(maps[name]))]
    weights = [maps[name][layer].get_parameter("weight") for layer, name in keys]
    sums = {key: torch.zeros_like(weight) for key, weight in zip(keys, weights, strict=True)}
    backbone = backbone_of(model, family)
    for weight in weights:
        weight.requires_grad_(True)
    try:
        for batch in batches:
            with step(batch.size):
                loss = ranking_loss(candidate_scores(backbone(batch), head, batch), batch)
                for key, gradient in zip(keys, torch.autograd.grad(loss, weights), strict=True):
                    sums[key].addcmul_(gradient, gradient)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
    linear = {name: isinstance(maps[name][0], nn.Linear) for name in names}
    return _importance(model, family, lambda layer, name: sums[layer, name].T if linear[name] else sums[layer, name])


def _one_target_per_linear(family: Family) -> list[str]:
    """One target module per linear layer: for a fused layer, its first part."""
    return [name for name, target in family.target_modules.items() if target.part == 0]


def _weight(model: nn.Module, family: Family, layer: int, name: str) -> Tensor:
    linear = family.linears_of(model, name)[layer]
    weight = plain_weight(linear)
    return weight.T if outputs_first(linear) else weight


def _importance(model: nn.Module, family: Family, value: Callable[[int, str], Tensor]) -> Importance:
    """Sum the weights' values over coordinates; holds the values of one linear layer at a time.

    Args:
        value: gives the non-negative values `[d_in, d_out]` of a target module's linear layer, by block and name.
    """
    dims = family.dims(model.config)
    residual = torch.zeros(dims.width, dtype=torch.float64)
    sums: dict[tuple[str, str], Tensor] = {}

    def add(stack: str, axis: str, layer: int, new: Tensor) -> None:
        if axis == "residual":
            residual.add_(new)
            return
        zeros = torch.zeros(dims.stacks[stack].layers, dims.size(stack, axis), dtype=torch.float64)
        sums.setdefault((stack, axis), zeros)[layer] += new

    for name in _one_target_per_linear(family):
        target, stack = family.target(name), stack_of(name)
        for layer in range(dims.stacks[stack].layers):
            values = value(layer, name).double().cpu()
            total = values.sum().clamp(min=torch.finfo(torch.float64).tiny)
            add(stack, target.reads, layer, values.sum(1) / total)
            add(stack, target.writes, layer, values.sum(0).view(target.parts, -1).sum(0) / total)

    def heads(stack: str, cross: str) -> Tensor | None:
        """Importance of key/value heads: the sum over their own coordinates and those of their query heads."""
        found = [sums[stack, axis] for axis in (f"{cross}inner", f"{cross}kv") if (stack, axis) in sums]
        of = dims.stacks[stack]
        return torch.stack([each.view(of.layers, of.kv_heads, -1).sum(-1) for each in found]).sum(0) if found else None

    stacks = {}
    for stack in dims.stacks:
        own = heads(stack, "")
        assert own is not None
        stacks[stack] = StackImportance(own, sums[stack, "ffn"], heads(stack, "cross_"))
    return Importance(residual, stacks)
