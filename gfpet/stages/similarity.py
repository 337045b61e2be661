"""Stage `similarity`: the modules tuned on S beside those that gradients made on L, with null controls for each value.

Usage: python -m gfpet.stages.similarity FAMILY
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch

from gfpet.lm.models import FrozenModel, LoadedModel, require_same_tokenizer
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Batch, TaskData, batches
from gfpet.method.align import load_pairs, read_through
from gfpet.method.plug import LayerAssignment, Projection, plugged, random_like
from gfpet.similarity import (
    EFFECT_MEASURES,
    WEIGHT_MEASURES,
    Block,
    Effects,
    compare_effects,
    compare_weights,
    diagonal,
    effects,
    grid_of,
    mean_over,
    numbered,
    residuals,
    untrained_like,
)
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model

_BATCH = 16
# Tokens that effects are compared on; they are held for every block of both models.
_TOKENS = 2000


@dataclass(frozen=True)
class _Models:
    """Both models, the maps between them, and where their modules lie."""

    run: StageRun
    family: str
    small: LoadedModel
    large: LoadedModel
    frozen: FrozenModel
    maps: Projection
    pairs: LayerAssignment

    @property
    def cells(self) -> list[tuple[int, int]]:
        """The layer assignment's pairs as (block of S, block of L)."""
        ours, theirs = self.blocks
        return [
            (ours[stack, of_small], theirs[stack, of_large])
            for stack, pairs in self.pairs.items()
            for of_large, of_small in pairs
        ]

    @property
    def every_cell(self) -> list[tuple[int, int]]:
        """All pairs of a block of S and a block of L, but for those across stacks: these see different tokens."""
        ours, theirs = self.blocks
        return [(ours[one], theirs[other]) for one, other in product(ours, theirs) if one[0] == other[0]]

    @cached_property
    def blocks(self) -> tuple[dict[Block, int], dict[Block, int]]:
        """The blocks of S and of L, numbered through."""
        ours, theirs = (numbered(each.family.depths_of(each.model)) for each in (self.small, self.large))
        return ours, theirs

    def module(self, stage_name: str, task: str, kind: str, seed: int) -> PetModule | None:
        """A tuned module, or None where its stage made none."""
        path = OUTPUTS / stage_name / self.family / task / f"{kind}-seed{seed}.safetensors"
        return PetModule.load(path).to(self.small.device, torch.float32) if path.is_file() else None

    def plugged(self, module: PetModule, *, random: int | None = None) -> PetModule:
        """The module in L's spaces: through the fitted maps, or through the random ones of that number."""
        maps = self.maps.for_module(module)
        if random is not None:
            maps = random_like(maps, torch.Generator().manual_seed(random))
        maps = maps.to(self.small.device, torch.float32)
        return plugged(module, maps, self.pairs, divide_by_copies=False)


class _Text:
    """A task's text, and what both models make of it without a module."""

    def __init__(self, models: _Models, task: str) -> None:
        self._models = models
        params = models.run.params
        self.data: TaskData = load_examples(params, task, models.small)
        examples = self.data.train.examples[: params.similarity.examples]
        small = models.small
        rows = read_through(examples, small.tokenizer, max_length=params.models.max_length, template=small.template)
        device = models.small.device
        self._batches: list[Batch] = [each.to(device) for _, each in batches(rows, size=_BATCH, pad=self.data.pad)]
        with torch.inference_mode():
            self._small = residuals(models.small.model, models.small.family, self._batches, tokens=_TOKENS)
        with models.frozen.forward_only() as model:
            self._large = residuals(model, models.large.family, self._batches, tokens=_TOKENS)

    @property
    def size(self) -> int:
        """Padded tokens."""
        return sum(each.size for each in self._batches)

    def in_small(self, module: PetModule) -> Effects:
        small = self._models.small
        with torch.inference_mode():
            return effects(small.model, small.family, module, self._batches, self._small, tokens=_TOKENS)

    def in_large(self, module: PetModule) -> Effects:
        with self._models.frozen.forward_only() as model:
            return effects(model, self._models.large.family, module, self._batches, self._large, tokens=_TOKENS)


def similarity(family: str) -> None:
    """Write `similarity.json`: `{"rows": [...]}`, one row a task, kind, seed and measure."""
    with stage("similarity", family) as run:
        if run.carries_nothing():
            _write(run.output / "similarity.json", [])
            return
        small, large = load_model(run.params, family, "small"), load_model(run.params, family, "large")
        require_same_tokenizer(small, large)
        models = _Models(
            run,
            family,
            small,
            large,
            FrozenModel(large.model),
            Projection.load(OUTPUTS / "align" / family / "maps.safetensors"),
            load_pairs(OUTPUTS / "align" / family / "layers.json"),
        )
        rows: list[dict[str, Any]] = []
        missing: list[str] = []
        with run.measure("similarity", resident=[small.model, large.model]) as meter:
            for task in run.params.tasks:
                text: _Text | None = None
                for kind, seed in product(run.params.kinds, run.params.seeds):
                    ours, theirs = (models.module(name, task, kind, seed) for name in ("tune", "reference"))
                    if ours is None or theirs is None:
                        missing.append(f"{task}/{kind}-seed{seed}")
                        continue
                    text = text or _Text(models, task)
                    with meter.step(text.size):
                        rows += _rows(models, text, task, kind, seed, ours, theirs)
        if missing:
            run.say(f"no pair of modules for {', '.join(missing)} (reference.methods says what L is tuned with)")
        if not rows:
            run.say("nothing to compare: similarity.json has no rows")
        _log(run, rows)
        _write(run.output / "similarity.json", rows)


def _rows(
    models: _Models, text: _Text, task: str, kind: str, seed: int, ours: PetModule, theirs: PetModule
) -> list[dict[str, Any]]:
    """The rows of one module: a value by every measure, its controls, its heat map."""
    samples = range(models.run.params.similarity.null_samples)
    fresh = [untrained_like(ours, models.small, text.data, sample=sample) for sample in samples]
    other = _other_task(models, task, kind, seed)
    twin = _other_seed(models, task, kind, seed)
    small_depth, large_depth = map(len, models.blocks)
    block_of = {number: block for block, number in models.blocks[1].items()}

    by_layer = compare_weights(models.plugged(ours), theirs)
    controls: dict[str, dict[str, float | None]] = {
        "random_map": _mean_weights([models.plugged(ours, random=sample) for sample in samples], theirs),
        "untrained": _mean_weights([models.plugged(each) for each in fresh], theirs),
        "other_task": _mean_weights([models.plugged(other)] if other else [], theirs),
        "other_seed": _mean_weights([twin] if twin else [], theirs),
    }
    values = {measure: mean_over(by_layer[measure].values()) for measure in WEIGHT_MEASURES}
    heat = {
        measure: grid_of(
            {cell: by_layer[measure].get(block_of[cell[1]]) for cell in models.cells}, small_depth, large_depth
        )
        for measure in WEIGHT_MEASURES
    }

    done = text.in_large(theirs)
    every = compare_effects(text.in_small(ours), done, models.every_cell)
    for measure in EFFECT_MEASURES:
        values[measure] = mean_over(every[measure][cell] for cell in models.cells)
        heat[measure] = grid_of(every[measure], small_depth, large_depth)
    nulls = {
        "untrained": [(text.in_small(each), models.cells) for each in fresh],
        "other_task": [(text.in_small(other), models.cells)] if other else [],
        "other_seed": [(text.in_large(twin), diagonal(large_depth))] if twin else [],
    }
    for name, compared in nulls.items():
        found = [compare_effects(each, done, cells) for each, cells in compared]
        for measure in EFFECT_MEASURES:
            controls[name][measure] = mean_over(mean_over(one[measure].values()) for one in found)
    return [
        {
            "task": task,
            "kind": kind,
            "seed": seed,
            "measure": measure,
            "value": value,
            "controls": {name: control.get(measure) for name, control in controls.items()},
            "heatmap": heat[measure],
        }
        for measure, value in values.items()
    ]


def _mean_weights(modules: list[PetModule], theirs: PetModule) -> dict[str, float | None]:
    found = [compare_weights(module, theirs) for module in modules]
    return {measure: mean_over(mean_over(one[measure].values()) for one in found) for measure in WEIGHT_MEASURES}


def _other_task(models: _Models, task: str, kind: str, seed: int) -> PetModule | None:
    """S's module of the next task of the list that has one."""
    tasks = models.run.params.tasks
    start = tasks.index(task)
    found = (models.module("tune", other, kind, seed) for other in (*tasks[start + 1 :], *tasks[:start]))
    return next((module for module in found if module is not None), None)


def _other_seed(models: _Models, task: str, kind: str, seed: int) -> PetModule | None:
    """L's own module of the next seed of the list that has one."""
    seeds = models.run.params.seeds
    start = seeds.index(seed)
    found = (models.module("reference", task, kind, other) for other in (*seeds[start + 1 :], *seeds[:start]))
    return next((module for module in found if module is not None), None)


def _log(run: StageRun, rows: list[dict[str, Any]]) -> None:
    """Means over seeds."""
    names = dict.fromkeys(f"{row['task']}/{row['kind']}/{row['measure']}" for row in rows)
    for name in names:
        same = [row["value"] for row in rows if f"{row['task']}/{row['kind']}/{row['measure']}" == name]
        run.log_value(name, mean_over(same))
    run.log_value("comparisons", len(rows))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps({"rows": rows}, indent=1, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(lambda: similarity(*sys.argv[1:]))
