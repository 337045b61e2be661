"""`W_plug` by regression: both models read the same text, and their activations are regressed on each other.

reads   `x_S ≈ Q x_L + offset`    predicts what a module of S reads from L's activation there
writes  `y_L ≈ P y_S + offset`    predicts L's activation from what a module of S writes to
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from gfpet.lm.activations import captured, visited
from gfpet.lm.families import Family, stack_of
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import KINDS
from gfpet.lm.scoring import Batch, backbone_of
from gfpet.memory import Step, no_step
from gfpet.method.align._moments import Moments, map_of
from gfpet.method.plug import LayerAssignment, Projection

Method = Literal["ridge", "procrustes"]
Direction = Literal["read", "write"]


def spaces_for(target_modules: Mapping[str, Sequence[str]]) -> tuple[set[str], set[str]]:
    """The spaces, `<target>.<in|out>`, that modules at these target modules read, and those that they write.

    Args:
        target_modules: full names, by kind of module.

    >>> spaces_for({"lora": ["attn.q"]})
    ({'attn.q.in'}, {'attn.q.out'})
    """
    reads: set[str] = set()
    writes: set[str] = set()
    for kind, names in target_modules.items():
        for part in KINDS[kind].parts.values():
            if part.axis is not None:
                into = reads if part.direction == "read" else writes
                into |= {f"{target}.{part.side}" for target in names}
    return reads, writes


def fit_maps(
    small: LoadedModel,
    large: FrozenModel,
    batches: Iterable[Batch],
    pairs: LayerAssignment,
    *,
    reads: Collection[str],
    writes: Collection[str],
    method: Method = "ridge",
    ridge: float = 1e-2,
    centre: bool = True,
    step: Step = no_step,
) -> Projection:
    """Fit the maps of every pair of layers and every space, in float32 on the models' device.

    Takes one pass over the text and keeps no activation of L beyond its block, only float64 sums: `n_L d_L²` values per
    space read, `n_S d_S²` per space written, and `n_L d_S d_L` per space of either sort (n_L: pairs of the layer
    assignment; spaces that are one tensor, such as the inputs of a fused query-key-value layer, are summed once).
    GPT-2 to GPT2-XL: 1.0 GB, 0.06 GB and 0.5 GB per space, about 6 GB for all three kinds at their default target
    modules. If that is too much, call it for some pairs at a time (`layer_groups`).

    Args:
        large: of the same family as the small model.
        pairs: the layer assignment; stacks without pairs get no maps.
        reads: spaces that need `Q`, as from `spaces_for`.
        writes: spaces that need `P`.
        ridge: penalty of the method `ridge`, as a fraction of the inputs' mean variance.
        centre: subtract the means before the regression, and keep offsets.
    """
    reads, writes = ([space for space in spaces if pairs.get(stack_of(space))] for spaces in (reads, writes))
    sources = same_tensor(small.family, {*reads, *writes})
    sums: dict[str, Moments] = {}
    for space in set(sources.values()):
        needs_q, needs_p = (any(sources[each] == space for each in asked) for asked in (reads, writes))
        sums[space] = Moments(pairs[stack_of(space)], needs_q, needs_p)
    text = _Text(small, large, pairs, set(sums))
    for batch in batches:
        with step(batch.size):
            text.read(
                batch,
                lambda space, layer, y, ours: sums[space].add_large(layer, y, ours),
                lambda space, layer, x: sums[space].add_small(layer, x),
            )
            for space, moments in sums.items():
                moments.count += sum(batch.texts[small.family.text_of(space)].lengths)
    named: dict[str, Tensor] = {}
    asked: tuple[tuple[Direction, Collection[str]], ...] = (("read", reads), ("write", writes))
    # Sums and maps are in memory together here: with large models this step has the highest peak.
    with step(sum(moments.size for moments in sums.values())):
        for direction, space in [(direction, space) for direction, spaces in asked for space in sorted(spaces)]:
            moments = sums[sources[space]]
            solved = [
                map_of(moments, pair, direction, method=method, ridge=ridge, centre=centre)
                for pair in pairs[stack_of(space)]
            ]
            # A new tensor for each space: safetensors refuses two names for one tensor.
            named[f"{direction}s/{space}"] = torch.stack([matrix for matrix, _ in solved]).float()
            if centre:
                named[f"{direction}_offsets/{space}"] = torch.stack([offset for _, offset in solved]).float()
    return Projection.of(named)


def explained(
    maps: Projection,
    small: LoadedModel,
    large: FrozenModel,
    batches: Iterable[Batch],
    pairs: LayerAssignment,
    *,
    step: Step = no_step,
) -> dict[str, float]:
    """R² of the maps on (held-out) text by `reads/<space>` and `writes/<space>`, averaged over pairs of layers.

    R² covers all coordinates of a space together: 1 is perfect, 0 is as good as the mean.
    """
    asked = [("read", space) for space in maps.reads] + [("write", space) for space in maps.writes]
    sources = same_tensor(small.family, {space for _, space in asked})
    errors = {each: [_Error() for _ in pairs[stack_of(each[1])]] for each in asked}

    def add(source: str, layer: int, in_large: Tensor, ours: Callable[[int], Tensor]) -> None:
        for direction, space in asked:
            if sources[space] != source:
                continue
            matrices, offsets = getattr(maps, f"{direction}s")[space], getattr(maps, f"{direction}_offsets").get(space)
            for index, (large_layer, small_layer) in enumerate(pairs[stack_of(space)]):
                if large_layer != layer:
                    continue
                x, y = (in_large, ours(small_layer)) if direction == "read" else (ours(small_layer), in_large)
                # In float32: float64 copies would raise the stage's peak memory.
                guess = x.float() @ matrices[index].T
                guess = guess if offsets is None else guess.add_(offsets[index])
                errors[direction, space][index].add(y.float(), guess)

    text = _Text(small, large, pairs, set(sources.values()))
    for batch in batches:
        with step(batch.size):
            text.read(batch, add)
    return {
        f"{direction}s/{space}": sum(each.r2() for each in errors[direction, space]) / len(errors[direction, space])
        for direction, space in asked
    }


class _Error:
    """Sums for R²: the squared error of a regression, and the squared spread around the mean."""

    def __init__(self) -> None:
        self._count = 0
        self._left = 0.0
        self._square = 0.0
        self._total: Tensor | float = 0.0

    def add(self, y: Tensor, guess: Tensor) -> None:
        """Add a batch; overwrites `guess`."""
        self._count += len(y)
        self._square += float(torch.linalg.vector_norm(y, dtype=torch.float64)) ** 2
        self._total = self._total + y.sum(0, dtype=torch.float64)
        self._left += float(torch.linalg.vector_norm(guess.sub_(y), dtype=torch.float64)) ** 2

    def r2(self) -> float:
        """1 is perfect, 0 is as good as the mean; 0 if there is no spread."""
        mean = float(torch.as_tensor(self._total).square().sum()) / max(self._count, 1)
        spread = self._square - mean
        return 1 - self._left / spread if spread > 0 else 0.0


class _Text:
    """Runs batches through S, then through L, and passes the activations of both to callbacks."""

    def __init__(self, small: LoadedModel, large: FrozenModel, pairs: LayerAssignment, spaces: Collection[str]) -> None:
        self._small, self._large, self._spaces = small, large, spaces
        self._in_large = {stack: {layer for layer, _ in own} for stack, own in pairs.items()}
        self._in_small = {stack: {layer for _, layer in own} for stack, own in pairs.items()}

    def read(
        self,
        batch: Batch,
        visit_large: Callable[[str, int, Tensor, Callable[[int], Tensor]], None],
        visit_small: Callable[[str, int, Tensor], None] = lambda *_: None,
    ) -> None:
        """Pass on the activations `[tokens, d]` of the assigned blocks, without padding.

        Args:
            visit_large: takes a space, a block of L, L's activation, and a function from a block of S to S's activation
                in the same space.
            visit_small: takes a space, a block of S, and S's activation.
        """
        small = self._small
        batch = batch.to(small.device)
        is_real = batch.is_real

        def tokens(space: str, states: Tensor) -> Tensor:
            return states[is_real[small.family.text_of(space)]]

        with self._large.forward_only() as model:
            with captured(small.model, small.family, self._spaces, self._in_small) as found:
                backbone_of(small.model, small.family)(batch)
            for space, layers in found.items():
                for layer in sorted(self._in_small.get(stack_of(space), ())):
                    layers[layer] = tokens(space, layers[layer])
                    visit_small(space, layer, layers[layer])

            def visit(space: str, layer: int, states: Tensor) -> None:
                visit_large(space, layer, tokens(space, states), lambda m: found[space][m])

            with visited(model, small.family, self._spaces, visit, self._in_large):
                backbone_of(model, small.family)(batch)


def same_tensor(family: Family, spaces: Collection[str]) -> dict[str, str]:
    """For each space, the first one that is the same tensor: parts of a fused linear layer share their input."""
    first: dict[tuple[str, str, str, int], str] = {}
    same = {}
    for space in sorted(spaces):
        name, side = space.rsplit(".", 1)
        target = family.target(name)
        same[space] = first.setdefault((stack_of(name), target.path, side, 0 if side == "in" else target.part), space)
    return same
