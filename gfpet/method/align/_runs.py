"""The work of stage `align` as one measured phase: the layer assignment, the maps, and their R² on held-out text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfpet.lm.families import stack_of
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Batch, EncodedExample, batches
from gfpet.memory import Measure, Step
from gfpet.method.align._cka import layer_likeness
from gfpet.method.align._fit import explained, fit_maps
from gfpet.method.align._groups import layer_groups, map_shapes
from gfpet.method.align._identity import identity_maps
from gfpet.method.align._settings import AlignSettings
from gfpet.method.plug import LayerAssignment, LayerAssignmentName, MapsWriter, Projection, layer_assignment

# Tokens for the layer assignment `cka`.
_CKA_TOKENS = 2000


@dataclass(frozen=True)
class Aligned:
    """The result of `align_models`; the maps themselves are in their file."""

    pairs: LayerAssignment
    quality: Mapping[str, float]
    """R² on held-out text by `reads/<space>` and `writes/<space>`, averaged over layers."""
    passes: int
    """Passes over the text: one per group of layers."""


def align_models(
    small: LoadedModel,
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample],
    assignment: LayerAssignmentName | LayerAssignment,
    settings: AlignSettings,
    *,
    reads: Collection[str],
    writes: Collection[str],
    file: Path | None,
    pad: int,
    measure: Measure,
    every_group: bool = True,
) -> Aligned:
    """Fit the maps of every pair of layers and every space, in groups of layers that fit in memory; phase `align`.

    Args:
        frozen: the large model, which counts its forward passes.
        text: examples to fit the maps on.
        held_out: examples to compute R² on.
        assignment: a rule's name, or the pairs themselves.
        reads: spaces that need `Q`, as from `spaces_for`.
        writes: spaces that need `P`.
        file: where to write the maps; None discards them.
        every_group: False fits only the first group of each stack, the largest one: enough for a memory estimate.

    Raises:
        ConfigError: the layer assignment or the method does not fit the two models.
    """
    spaces = {"reads": reads, "writes": writes}
    found: dict[str, list[tuple[float, int]]] = {}
    with measure("align", resident=[small.model, large.model]) as meter:
        pairs = _assigned(assignment, small, large, frozen, text, settings, pad)
        shapes = map_shapes(small, large, pairs, reads=reads, writes=writes, centre=settings.centre)
        writer = None if file is None else MapsWriter(file, shapes)
        groups = list(layer_groups(pairs, small.family, small.model, large.model, **spaces, budget=settings.budget))
        for group, start in groups if every_group else _first_of_stacks(groups):
            here = {name: {space for space in of if stack_of(space) in group} for name, of in spaces.items()}
            maps = _maps(small, large, frozen, text, group, settings, **here, pad=pad, step=meter.step)
            if writer is not None:
                writer.write(maps, start)
            judged = explained(
                maps, small, frozen, _batches(held_out, pad, settings.batch_size), group, step=meter.step
            )
            for name, value in judged.items():
                found.setdefault(name, []).append((value, sum(map(len, group.values()))))
            del maps
    # Groups differ in size, so weight them by their pairs.
    quality = {name: sum(v * n for v, n in of) / sum(n for _, n in of) for name, of in sorted(found.items())}
    return Aligned(pairs, quality, len(groups))


def _assigned(
    assignment: LayerAssignmentName | LayerAssignment,
    small: LoadedModel,
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    settings: AlignSettings,
    pad: int,
) -> LayerAssignment:
    if not isinstance(assignment, str):
        return assignment
    likeness = None
    if assignment == "cka":
        likeness = layer_likeness(small, frozen, _batches(text, pad, settings.batch_size), tokens=_CKA_TOKENS)
    of_small, of_large = small.family.depths_of(small.model), large.family.depths_of(large.model)
    return layer_assignment(assignment, of_small, of_large, likeness)


def _maps(
    small: LoadedModel,
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    group: LayerAssignment,
    settings: AlignSettings,
    *,
    reads: Collection[str],
    writes: Collection[str],
    pad: int,
    step: Step,
) -> Projection:
    if settings.method == "identity":
        return identity_maps(small, large, group, reads=reads, writes=writes)
    return fit_maps(
        small,
        frozen,
        _batches(text, pad, settings.batch_size),
        group,
        reads=reads,
        writes=writes,
        method=settings.method,
        ridge=settings.ridge,
        centre=settings.centre,
        step=step,
    )


def _first_of_stacks(
    groups: Sequence[tuple[LayerAssignment, dict[str, int]]],
) -> list[tuple[LayerAssignment, dict[str, int]]]:
    first: dict[str, tuple[LayerAssignment, dict[str, int]]] = {}
    for group, start in groups:
        first.setdefault(next(iter(group)), (group, start))
    return list(first.values())


def _batches(text: Sequence[EncodedExample], pad: int, size: int) -> list[Batch]:
    # In the text's own order: sorted by length, `cka` would see only the task with the longest texts.
    return [batch for _, batch in batches(text, size=size, pad=pad, order=range(len(text)))]
