"""Splits the layer assignment into groups whose sums fit in memory; each group costs one more pass over the text."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from gfpet.lm.families import Family, stack_of
from gfpet.lm.models import LoadedModel
from gfpet.method.align._fit import same_tensor
from gfpet.method.plug import LayerAssignment, LayerPairs, with_embeddings

_SUMS, _MAPS = 8, 4  # bytes per value: float64, float32


def layer_groups(
    pairs: LayerAssignment,
    family: Family,
    small: nn.Module,
    large: nn.Module,
    *,
    reads: Collection[str],
    writes: Collection[str],
    budget: int,
) -> Iterator[tuple[LayerAssignment, dict[str, int]]]:
    """Groups of the layer assignment, each with its start index among its stack's pairs.

    Args:
        reads: spaces that need `Q`.
        writes: spaces that need `P`.
        budget: bytes for one group's sums and maps. A group has at least one pair, even over the budget.
    """
    for stack, own in with_embeddings(pairs, {*reads, *writes}).items():
        spaces = [[space for space in every if stack_of(space) == stack] for every in (reads, writes)]
        most = max(1, budget // max(1, _bytes_a_pair(family, small, large, *spaces)))
        for start in range(0, len(own), most):
            part: LayerPairs = own[start : start + most]
            yield {stack: part}, {stack: start}


def _bytes_a_pair(
    family: Family, small: nn.Module, large: nn.Module, reads: Collection[str], writes: Collection[str]
) -> int:
    sources = same_tensor(family, {*reads, *writes})
    total = 0
    for space in set(sources.values()):
        d_small, d_large = (_space_width(family, model, space) for model in (small, large))
        read, written = (sum(sources[each] == space for each in asked) for asked in (reads, writes))
        total += _SUMS * (d_small * d_large + (d_large**2 if read else 0) + (d_small**2 if written else 0))
        total += _MAPS * d_small * d_large * (read + written)
    return total


def map_shapes(
    small: LoadedModel,
    large: LoadedModel,
    pairs: LayerAssignment,
    *,
    reads: Collection[str],
    writes: Collection[str],
    centre: bool,
) -> dict[str, tuple[int, ...]]:
    """Shapes of all maps and offsets, by the names of `Projection.named`."""
    shapes: dict[str, tuple[int, ...]] = {}
    pairs = with_embeddings(pairs, {*reads, *writes})
    for space in {*reads, *writes}:
        layers = len(pairs[stack_of(space)])
        ours, theirs = (_space_width(each.family, each.model, space) for each in (small, large))
        for direction, asked, to, of in (("read", reads, ours, theirs), ("write", writes, theirs, ours)):
            if space in asked:
                shapes[f"{direction}s/{space}"] = (layers, to, of)
                shapes |= {f"{direction}_offsets/{space}": (layers, to)} if centre else {}
    return shapes


def _space_width(family: Family, model: nn.Module, space: str) -> int:
    """Width of a space `<target>.<in|out>` in a model."""
    target, side = space.rsplit(".", 1)
    return family.target_widths(model, target)[0 if side == "in" else 1]
