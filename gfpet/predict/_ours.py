"""Every stage of our method, run on sizes alone with the functions that the stage programs call."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from gfpet.align import explained, fit_maps, layer_groups, map_shapes, spaces_for
from gfpet.bridge import (
    ActivationCache,
    fit_bridge,
    plan_activations,
    predict_with_bridge,
    row_lengths,
    start_ladder,
    start_transfer,
)
from gfpet.config import Params
from gfpet.families import Family
from gfpet.frozen import FrozenModel
from gfpet.memory import MemoryReading, measure
from gfpet.models import LoadedModel
from gfpet.modules import inserted
from gfpet.plug import LayerMap, Projection, layer_map, spaces_of
from gfpet.predict._methods import Peaks, infer, settings
from gfpet.predict._sizes_only import sizes_only
from gfpet.predict._workload import Shape, Workload, make_bridge, shaped
from gfpet.prune import activation_importance, fisher_importance, magnitude_importance
from gfpet.scoring import batches, head_of
from gfpet.tuning import Hooks, start_module, tune_module, wants_checkpointing

Step = Callable[[int], AbstractContextManager[None]]


class _Sizes:
    """Stands for the cache's file: rows go nowhere, and come back as sizes."""

    def __init__(self, _: Path, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
        self._dtype, self._shape = dtype, shape

    def put(self, start: int, values: Tensor) -> None:
        """Forget them."""

    def take(self, start: int, stop: int) -> Tensor:
        """Values of the right size."""
        return torch.empty(stop - start, *self._shape[1:], dtype=self._dtype)


def shared_stages(small: Shape, large: Shape, work: Workload, params: Params) -> Peaks:
    """Peaks of the stages that all kinds go through: `align`, `prune`."""
    with sizes_only():
        s, loaded = _pair(small, large, work, params)
        peaks = {"align": _align(s, loaded, work, params)}
        del s
        with measure("prune", [loaded.model]) as meter:
            _importance(loaded, work, params, meter.step)
            with meter.step():
                bridge = make_bridge(loaded, params)
                del bridge
        return peaks | {"prune": meter.reading}


def kind_stages(kind: str, small: Shape, large: Shape, work: Workload, params: Params) -> Peaks:
    """Peaks of the stages that a module of one kind goes through: `tune S`, `cache`, `bridge`, `infer`."""
    with sizes_only():
        s, loaded = _pair(small, large, work, params)
        family, data = loaded.family, work.task(loaded.family)
        module = start_module(kind, s, getattr(params.modules, kind).model_dump(), data, seed=0)
        with measure("tune", [s.model, *module.tensors.values()]) as tuning:
            module, _ = tune_module(
                s,
                module,
                data,
                settings(work.batch),
                learning_rate=1e-3,
                seed=0,
                gradient_checkpointing=wants_checkpointing(params.tune.gradient_checkpointing, s.model),
                hooks=Hooks(step=tuning.step, quiet=True),
            )
        peaks = {"tune S": tuning.reading}
        pairs, dims = _pairs(s, loaded, params), family.dims(loaded.model.config)
        reads, writes = spaces_of(module)
        maps = _maps(s, loaded, pairs, reads, writes)
        bridge = make_bridge(loaded, params)
        transfer = start_transfer(
            module,
            maps,
            pairs,
            family,
            bridge.kept,
            dims,
            divide_by_copies=params.plug.divide_by_copies,
            update=params.plug.update,
            update_rank=params.plug.update_rank,
            w_down=params.bridge.w_down,
            seed=0,
        )
        del s, maps
        section = params.bridge.activations
        lengths = row_lengths(data.train.encoded)
        plan = plan_activations(
            section.store,
            tokens={stack: sum(each) for stack, each in lengths.items()},
            layers={stack: of.layers for stack, of in dims.stacks.items()},
            large_width=dims.width,
            bridge_width=len(bridge.kept.residual),
            dtype=getattr(torch, section.dtype),
            budget=int(section.budget_gb * 1e9),
        )
        cache = ActivationCache(Path(), plan, lengths, _Sizes)
        with measure("cache", [loaded.model]) as caching:
            cache.fill(
                data.eval.encoded,
                FrozenModel(loaded.model),
                family,
                bridge.kept.residual,
                batch_size=work.batch,
                pad=0,
                device=work.device,
                step=caching.step,
            )
        peaks["cache"] = caching.reading
        plugged = transfer.in_large().detached()
        with inserted(loaded.model, family, plugged):
            peaks["infer"] = infer(loaded, work, *plugged.tensors.values())
        del loaded, plugged
        ladder = start_ladder(plan, bridge.kept.residual, params.bridge.temperature, work.device)
        with measure("bridge", [bridge.model, *transfer.tensors, *ladder.tensors.values()]) as meter:
            fit_bridge(
                bridge,
                family,
                ladder,
                transfer,
                data,
                cache,
                cache,
                settings(work.batch),
                learning_rate=1e-3,
                bridge_learning_rate=1e-3,
                train_bridge=params.bridge.train_bridge,
                seed=0,
                gradient_checkpointing=wants_checkpointing(params.bridge.gradient_checkpointing, bridge.model),
                hooks=Hooks(step=meter.step, quiet=True),
            )
            predict_with_bridge(
                bridge, family, ladder, transfer, data.eval, cache, batch_size=work.batch, pad=0, step=meter.step
            )
        return peaks | {"bridge": meter.reading}


def _pair(small: Shape, large: Shape, work: Workload, params: Params) -> tuple[LoadedModel, LoadedModel]:
    pair = getattr(params.models, large.family)
    dtypes = [getattr(torch, each.dtype) for each in (pair.small, pair.large)]
    return shaped(small, dtypes[0], work.device), shaped(large, dtypes[1], work.device)


def _pairs(small: LoadedModel, large: LoadedModel, params: Params) -> LayerMap:
    # `cka` looks at values; it pairs as many layers as `interpolate` does.
    name = "interpolate" if params.align.layer_map == "cka" else params.align.layer_map
    return layer_map(name, *(each.family.depths_of(each.model) for each in (small, large)))


def module_spaces(params: Params, family: Family) -> tuple[set[str], set[str]]:
    """What modules of all configured kinds read and write."""
    modules = params.modules
    sites = {
        "lora": family.expanded(modules.lora.sites),
        "adapter": family.expanded(modules.adapter.sites),
        "prefix": tuple(f"{name}.{part}" for name in family.attentions for part in ("k", "v")),
    }
    return spaces_for({kind: sites[kind] for kind in params.kinds})


def _align(small: LoadedModel, large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    section, frozen = params.align, FrozenModel(large.model)
    reads, writes = module_spaces(params, small.family)
    pairs = _pairs(small, large, params)
    text = work.split(small.family, 2, section.batch_size).encoded
    found = [batch for _, batch in batches(text, size=section.batch_size, pad=0)]
    budget = int(section.budget_gb * 1e9)
    groups = layer_groups(pairs, small.family, small.model, large.model, reads=reads, writes=writes, budget=budget)
    # All groups of a stack are alike but the last, which may be smaller.
    first: dict[str, LayerMap] = {}
    for group, _ in groups:
        first.setdefault(next(iter(group)), group)
    with measure("align", [small.model, large.model]) as meter:
        for group in first.values():
            maps = fit_maps(
                small,
                frozen,
                found,
                group,
                reads=reads,
                writes=writes,
                method=section.method,
                ridge=section.ridge,
                centre=section.centre,
                step=meter.step,
            )
            explained(maps, small, frozen, found, group, step=meter.step)
            del maps
    return meter.reading


def _importance(loaded: LoadedModel, work: Workload, params: Params, step: Step) -> None:
    section, family = params.prune, loaded.family
    if section.importance == "magnitude":
        with step(0):
            magnitude_importance(loaded.model, family)
        return
    size = 1 if section.importance == "fisher" else section.batch_size
    found = [batch for _, batch in batches(work.split(family, 2, size).encoded, size=size, pad=0)]
    if section.importance == "fisher":
        fisher_importance(loaded.model, family, head_of(loaded.model), found, step)
    else:
        activation_importance(FrozenModel(loaded.model), family, found, step)


def _maps(
    small: LoadedModel, large: LoadedModel, pairs: LayerMap, reads: Collection[str], writes: Collection[str]
) -> Projection:
    """`W_plug` as stage align leaves it on disk."""
    shapes = map_shapes(small, large, pairs, reads=reads, writes=writes, centre=True)
    return Projection.of({name: torch.empty(shape) for name, shape in shapes.items()})
