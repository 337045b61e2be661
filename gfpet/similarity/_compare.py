"""The body of stage `similarity`: compares S's modules with those tuned on L by gradients, with null controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, TypeVar

from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import TaskData
from gfpet.memory import Step
from gfpet.pipeline import tag_of
from gfpet.similarity._effects import Cells, Effects, compare_effects
from gfpet.similarity._grid import Grid, diagonal, grid_of, mean_over
from gfpet.similarity._models import ModelPair, TaskText
from gfpet.similarity._nulls import untrained_like
from gfpet.similarity._weights import compare_weights

T = TypeVar("T")

EFFECT_MEASURES = ("cka", "cka_debiased", "rsa")
WEIGHT_MEASURES = ("cosine", "subspace")

FindModule = Callable[[str, str, int], PetModule | None]
"""Gives the module of a task, a kind and a seed, or None."""
Row = dict[str, Any]
"""`task`, `kind`, `seed`, `measure`, `value`, `controls` (by name), `heatmap` `[n_S, n_L]`."""


@dataclass(frozen=True)
class TunedModules:
    """The modules to compare."""

    tasks: Sequence[str]
    kinds: Sequence[str]
    seeds: Sequence[int]
    of_small: FindModule
    """Tuned on S."""
    of_large: FindModule
    """Tuned on L by gradients."""

    def other_task(self, task: str, kind: str, seed: int) -> PetModule | None:
        """S's module of the next task in the list that has one."""
        others = (self.of_small(other, kind, seed) for other in _after(self.tasks, task))
        return next((module for module in others if module is not None), None)

    def other_seed(self, task: str, kind: str, seed: int) -> PetModule | None:
        """L's own module of the next seed in the list that has one."""
        others = (self.of_large(task, kind, other) for other in _after(self.seeds, seed))
        return next((module for module in others if module is not None), None)


@dataclass(frozen=True)
class Comparison:
    """All rows, and the modules without a counterpart."""

    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """`<task>/<kind>-seed<seed>`."""

    def means(self) -> dict[str, float | None]:
        """Means over seeds, by `<task>/<kind>/<measure>`."""
        values: dict[str, list[float | None]] = {}
        for row in self.rows:
            values.setdefault(f"{row['task']}/{row['kind']}/{row['measure']}", []).append(row["value"])
        return {name: mean_over(each) for name, each in values.items()}


def compare_modules(
    models: ModelPair,
    modules: TunedModules,
    load: Callable[[str], TaskData],
    *,
    examples: int,
    max_length: int,
    null_samples: int,
    step: Step,
) -> Comparison:
    """Compare S's module with L's, for every task, kind and seed that has both.

    Args:
        load: gives the examples of a task, in the tokens of both models.
        examples: number of training examples whose text to compare the effects on.
        null_samples: number of random maps, and of untrained modules, for the null controls.
        step: measures one comparison.
    """
    found = Comparison()
    for task in modules.tasks:
        text: TaskText | None = None
        for kind, seed in product(modules.kinds, modules.seeds):
            ours, theirs = modules.of_small(task, kind, seed), modules.of_large(task, kind, seed)
            if ours is None or theirs is None:
                found.missing.append(f"{task}/{tag_of(kind, seed)}")
                continue
            text = text or TaskText(models, load(task), examples=examples, max_length=max_length)
            with step(text.size):
                others = modules.other_task(task, kind, seed), modules.other_seed(task, kind, seed)
                values = _values(models, text, ours, theirs, *others, samples=range(null_samples))
            found.rows.extend({"task": task, "kind": kind, "seed": seed, **value} for value in values)
    return found


def _values(
    models: ModelPair,
    text: TaskText,
    ours: PetModule,
    theirs: PetModule,
    other_task: PetModule | None,
    other_seed: PetModule | None,
    *,
    samples: Iterable[int],
) -> list[Row]:
    """One row per measure for one module, each with its controls and its heat map."""
    samples = list(samples)
    fresh = [untrained_like(ours, models.small, text.data, sample=sample) for sample in samples]
    weights = compare_weights(models.plugged(ours), theirs)
    weight_controls = {
        "random_map": _mean_weights([models.plugged(ours, random=sample) for sample in samples], theirs),
        "untrained": _mean_weights([models.plugged(each) for each in fresh], theirs),
        "other_task": _mean_weights([models.plugged(other_task)] if other_task else [], theirs),
        "other_seed": _mean_weights([other_seed] if other_seed else [], theirs),
    }
    small_depth, large_depth = map(len, models.blocks)
    changed = text.in_large(theirs)
    effects = compare_effects(text.in_small(ours), changed, models.every_cell)
    nulls: dict[str, list[tuple[Effects, Cells]]] = {
        "untrained": [(text.in_small(each), models.cells) for each in fresh],
        "other_task": [(text.in_small(other_task), models.cells)] if other_task else [],
        "other_seed": [(text.in_large(other_seed), diagonal(large_depth))] if other_seed else [],
    }
    effect_controls = {name: _mean_effects(compared, changed) for name, compared in nulls.items()}

    def row(measure: str, value: float | None, heatmap: Grid | None) -> Row:
        controls = {name: {**of, **effect_controls.get(name, {})}.get(measure) for name, of in weight_controls.items()}
        return {"measure": measure, "value": value, "controls": controls, "heatmap": heatmap}

    block_of = {number: block for block, number in models.blocks[1].items()}
    rows = []
    for measure in WEIGHT_MEASURES:
        by_cell = {cell: weights[measure].get(block_of[cell[1]]) for cell in models.cells}
        heat = grid_of(by_cell, small_depth, large_depth)
        rows.append(row(measure, mean_over(weights[measure].values()), heat))
    for measure in EFFECT_MEASURES:
        value = mean_over(effects[measure][cell] for cell in models.cells)
        rows.append(row(measure, value, grid_of(effects[measure], small_depth, large_depth)))
    return rows


def _mean_weights(modules: Sequence[PetModule], theirs: PetModule) -> dict[str, float | None]:
    found = [compare_weights(module, theirs) for module in modules]
    return {measure: mean_over(mean_over(one[measure].values()) for one in found) for measure in WEIGHT_MEASURES}


def _mean_effects(compared: Sequence[tuple[Effects, Cells]], theirs: Effects) -> dict[str, float | None]:
    found = [compare_effects(each, theirs, cells) for each, cells in compared]
    return {measure: mean_over(mean_over(one[measure].values()) for one in found) for measure in EFFECT_MEASURES}


def _after(values: Sequence[T], one: T) -> list[T]:
    """The other values, from the next one on, cyclically."""
    place = values.index(one)
    return [*values[place + 1 :], *values[:place]]
