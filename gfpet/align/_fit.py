"""`W_plug` by regression: both models read the same text, and each space of S is regressed on L's or L's on S's.

reads   `x_S ≈ Q x_L + offset`    what a module of S reads, from what L has there
writes  `y_L ≈ P y_S + offset`    what a module of S writes, as L would have it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from gfpet.activations import Captured, captured
from gfpet.align._moments import Moments, map_of
from gfpet.families import Family, stack_of
from gfpet.frozen import FrozenModel
from gfpet.models import LoadedModel
from gfpet.modules import KINDS
from gfpet.plug import LayerMap, Projection
from gfpet.scoring import Batch, trunk_of

Method = Literal["ridge", "procrustes"]
Direction = Literal["read", "write"]
Step = Callable[[int], AbstractContextManager[None]]
"""A memory meter's `step`, opened around each batch with its padded size."""


def _no_step(_: int) -> AbstractContextManager[None]:
    return nullcontext()


def spaces_for(sites: Mapping[str, Sequence[str]]) -> tuple[set[str], set[str]]:
    """The spaces, `<site>.<in|out>`, that modules at these sites read from and those that they write to.

    Args:
        sites: by kind, by their full names.

    >>> spaces_for({"lora": ["attn.q"]})
    ({'attn.q.in'}, {'attn.q.out'})
    """
    reads: set[str] = set()
    writes: set[str] = set()
    for kind, names in sites.items():
        for part in KINDS[kind].parts.values():
            if part.axis is not None:
                into = reads if part.direction == "read" else writes
                into |= {f"{site}.{part.side}" for site in names}
    return reads, writes


def fit_maps(
    small: LoadedModel,
    large: FrozenModel,
    batches: Iterable[Batch],
    pairs: LayerMap,
    *,
    reads: Collection[str],
    writes: Collection[str],
    method: Method = "ridge",
    ridge: float = 1e-2,
    centre: bool = True,
    step: Step = _no_step,
) -> Projection:
    """The maps of every pair of layers and every space, in float32 on the models' device.

    One pass over the text; no activation outlives its batch. What is summed up instead, in float64: for each space that
    is read `n_L d_L²` values, for each that is written `n_S d_S²`, and `n_L d_S d_L` for either (n_L: pairs of the
    layer map; spaces that are one tensor, such as the inputs of a fused query-key-value map, are summed once).
    GPT-2 to GPT2-XL: 1.0 GB, 0.06 GB and 0.5 GB a space, about 6 GB for all three kinds at their default sites. Where
    that is too much, call it for some spaces at a time.

    Args:
        large: of the same family as the small model.
        reads: spaces that need `Q`, as from `spaces_for`.
        writes: spaces that need `P`.
        ridge: penalty of the method `ridge`, as a part of the mean variance of the inputs.
        centre: regress what is left after the means, and keep the difference of the means as offsets.
    """
    sources = _same_tensor(small.family, {*reads, *writes})
    sums: dict[str, Moments] = {}
    for space in set(sources.values()):
        needs_q, needs_p = (any(sources[each] == space for each in asked) for asked in (reads, writes))
        sums[space] = Moments(pairs[stack_of(space)], needs_q, needs_p)

    def add(is_real: Mapping[str, Tensor], ours: Captured, theirs: Captured) -> None:
        for space, moments in sums.items():
            moments.add(ours[space], theirs[space], is_real[small.family.text_of(space)])

    _read_text(small, large, batches, set(sums), step, add)
    named: dict[str, Tensor] = {}
    asked: tuple[tuple[Direction, Collection[str]], ...] = (("read", reads), ("write", writes))
    # Sums and maps are there together now: in large models the largest step of all.
    with step(sum(moments.size for moments in sums.values())):
        for direction, space in [(direction, space) for direction, spaces in asked for space in sorted(spaces)]:
            moments = sums[sources[space]]
            solved = [
                map_of(moments, pair, direction, method=method, ridge=ridge, centre=centre)
                for pair in pairs[stack_of(space)]
            ]
            # A new tensor for each space: safetensors refuses two names for one.
            named[f"{direction}s/{space}"] = torch.stack([matrix for matrix, _ in solved]).float()
            if centre:
                named[f"{direction}_offsets/{space}"] = torch.stack([offset for _, offset in solved]).float()
    return Projection.of(named)


def explained(
    maps: Projection,
    small: LoadedModel,
    large: FrozenModel,
    batches: Iterable[Batch],
    pairs: LayerMap,
    *,
    step: Step = _no_step,
) -> dict[str, float]:
    """R² of each map on (held-out) text, the mean over pairs of layers, by `reads/<space>` and `writes/<space>`.

    1 is perfect, 0 is as good as the mean; over all coordinates of a space together.
    """
    asked = [("read", space) for space in maps.reads] + [("write", space) for space in maps.writes]
    sources = _same_tensor(small.family, {space for _, space in asked})
    errors = {each: [_Error() for _ in pairs[stack_of(each[1])]] for each in asked}

    def add(is_real: Mapping[str, Tensor], ours: Captured, theirs: Captured) -> None:
        for direction, space in asked:
            matrices, offsets = getattr(maps, f"{direction}s")[space], getattr(maps, f"{direction}_offsets").get(space)
            real = is_real[small.family.text_of(space)]
            for index, (large_layer, small_layer) in enumerate(pairs[stack_of(space)]):
                in_large = theirs[sources[space]][large_layer][real].double()
                in_small = ours[sources[space]][small_layer][real].double()
                x, y = (in_large, in_small) if direction == "read" else (in_small, in_large)
                guess = x @ matrices[index].double().T
                guess = guess if offsets is None else guess + offsets[index].double()
                errors[direction, space][index].add(y, guess)

    _read_text(small, large, batches, set(sources.values()), step, add)
    return {
        f"{direction}s/{space}": sum(each.r2() for each in errors[direction, space]) / len(errors[direction, space])
        for direction, space in asked
    }


class _Error:
    """What a regression leaves over, against the spread around the mean."""

    def __init__(self) -> None:
        self._count = 0
        self._left = 0.0
        self._square = 0.0
        self._total: Tensor | float = 0.0

    def add(self, y: Tensor, guess: Tensor) -> None:
        self._count += len(y)
        self._left += float((y - guess).square().sum())
        self._square += float(y.square().sum())
        self._total = self._total + y.sum(0)

    def r2(self) -> float:
        """1 is perfect, 0 as good as the mean; 0 where there is no spread."""
        mean = float(torch.as_tensor(self._total).square().sum()) / max(self._count, 1)
        spread = self._square - mean
        return 1 - self._left / spread if spread > 0 else 0.0


def _read_text(
    small: LoadedModel,
    large: FrozenModel,
    batches: Iterable[Batch],
    spaces: Collection[str],
    step: Step,
    add: Callable[[Mapping[str, Tensor], Captured, Captured], None],
) -> None:
    """Call `add` for each batch: what of each stack is text `[rows, length]`, activations of S and L by space."""
    with large.forward_only() as model:
        for batch in batches:
            with step(batch.size):
                batch = batch.to(small.device)
                with captured(small.model, small.family, spaces) as ours:
                    trunk_of(small.model, small.family)(batch)
                with captured(model, small.family, spaces) as theirs:
                    trunk_of(model, small.family)(batch)
                add(batch.is_real, ours, theirs)


def _same_tensor(family: Family, spaces: Collection[str]) -> dict[str, str]:
    """For each space, the first one that is the same tensor: parts of a fused map share their input."""
    first: dict[tuple[str, str, str, int], str] = {}
    same = {}
    for space in sorted(spaces):
        name, side = space.rsplit(".", 1)
        site = family.site(name)
        same[space] = first.setdefault((stack_of(name), site.path, side, 0 if side == "in" else site.part), space)
    return same
