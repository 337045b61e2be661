"""Every stage of our method, run on sizes alone with the functions that the stage programs call."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from gfpet.config import DERIVE, LargeCheckpoint, Pair, Params
from gfpet.estimate._derive import derive_peak, heal_reading
from gfpet.estimate._methods import Peaks, infer, settings
from gfpet.estimate._quantised import quantise_fake
from gfpet.estimate._readout import readout_peak
from gfpet.estimate._workload import Shape, Workload, make_bridge, shaped
from gfpet.lm.families import Family, stack_of
from gfpet.lm.models import FrozenModel, LoadedModel, require_library
from gfpet.lm.modules import PetModule, inserted, targets_by_kind
from gfpet.lm.scoring import batches, head_of
from gfpet.lm.training import Hooks, start_module, tune_module, wants_checkpointing
from gfpet.memory import MemoryReading, Resident, Step, measure
from gfpet.method.activation_cache import ActivationCache, Activations, Plan, plan_activations, row_lengths
from gfpet.method.align import explained, fit_maps, identity_maps, layer_groups, map_shapes, spaces_for
from gfpet.method.bridge import Transfer, fit_bridge, predict_with_bridge, start_ladder, start_transfer
from gfpet.method.plug import LayerAssignment, LayerAssignmentName, Projection, layer_assignment, spaces_of
from gfpet.method.prune import Bridge, activation_importance, fisher_importance, magnitude_importance

SHARED = ("derive", "align", "prune", "cache", "readout")
OF_KIND = ("tune S", "bridge", "infer")


def shared_stages(small: Shape, large: Shape, work: Workload, params: Params, only: Collection[str] = SHARED) -> Peaks:
    """Peaks of the stages that all kinds go through: `align`, `prune`; `derive`, `cache` and `readout` if they do more
    than note that they are not wanted."""
    peaks: Peaks = {}
    with work.tensors():
        if "derive" in only and getattr(params.models, large.family).small.path == DERIVE:
            peaks["derive"] = derive_peak(_pair(small, large, work, params)[1], work, params)
        if "align" in only:
            peaks["align"] = align_peak(*_pair(small, large, work, params), work, params)
        if "prune" in only:
            # A model of its own: once L has been seen as frozen, `fisher` may not touch it.
            peaks["prune"] = prune_peak(_pair(small, large, work, params)[1], work, params)
        if "cache" in only and params.bridge.epochs:
            loaded = _pair(small, large, work, params)[1]
            bridge = make_bridge(loaded, params)
            peaks["cache"] = cache_peak(_cache(loaded, bridge, work, params)[0], loaded, bridge, work, params)
            del loaded, bridge
        if "readout" in only and "readout" in params.evaluate.strategies:
            peaks["readout"] = readout_peak(_pair(small, large, work, params)[1], work, params)
    return peaks


def kind_stages(
    kind: str,
    small: Shape,
    large: Shape,
    work: Workload,
    params: Params,
    only: Collection[str] = OF_KIND,
    by_module: bool = False,
) -> Peaks:
    """Peaks of the stages that a module of one kind goes through: `tune S`, `infer`, and `bridge` if one is trained."""
    peaks: Peaks = {}
    with work.tensors():
        s, loaded = _pair(small, large, work, params)
        family, data = loaded.family, work.task(loaded.family)
        module = start_module(kind, s, getattr(params.modules, kind).model_dump(), data, seed=0)
        if "tune S" in only:
            peaks["tune S"] = tune_peak(s, module, work, params, by_module)
        if not {"bridge", "infer"} & set(only):
            return peaks
        pairs = _pairs(s, loaded, params)
        reads, writes = spaces_of(module)
        # As stage align leaves them on disk.
        shapes = map_shapes(s, loaded, pairs, reads=reads, writes=writes, centre=params.align.centre)
        maps = Projection.unread(shapes, lambda name: torch.zeros(shapes[name]))
        bridge = make_bridge(loaded, params)
        transfer = start_transfer(
            module,
            maps,
            pairs,
            family,
            bridge.kept,
            family.dims(loaded.model.config),
            divide_by_copies=params.plug.divide_by_copies,
            update=params.plug.update,
            update_rank=params.plug.update_rank,
            w_down=params.bridge.w_down,
            seed=0,
        )
        del s, maps
        cache, plan = _cache(loaded, bridge, work, params)
        training = "bridge" in only and params.bridge.epochs > 0
        if training and work.real is not None:
            # Else the Bridge would read zeros, and the gradients of its norms would not be finite.
            cache_peak(cache, loaded, bridge, work, params)
        if "infer" in only:
            plugged = transfer.in_large().detached()
            with inserted(loaded.model, family, plugged):
                peaks["infer"] = infer(loaded, work, params, *plugged.tensors.values())
            del plugged
        del loaded
        if training:
            peaks["bridge"] = bridge_peak(bridge, family, transfer, cache, plan, work, params, by_module)
    return peaks


def tune_peak(
    small: LoadedModel, module: PetModule, work: Workload, params: Params, by_module: bool = False
) -> MemoryReading:
    """Training a module of S."""
    modules = small.model if by_module else None
    with measure("tune", [small.model, *module.tensors.values()], modules=modules) as meter:
        tune_module(
            small,
            module,
            work.task(small.family, params.tune.batch_size),
            settings(params.tune.batch_size),
            learning_rate=1e-3,
            seed=0,
            gradient_checkpointing=wants_checkpointing(params.tune.gradient_checkpointing, small.model),
            hooks=Hooks(step=meter.step, quiet=True),
        )
    return meter.reading


def _cache(large: LoadedModel, bridge: Bridge, work: Workload, params: Params) -> tuple[ActivationCache, Plan]:
    section, dims = params.bridge.activations, large.family.dims(large.model.config)
    most = max(work.batch, params.bridge.batch_size)
    lengths = row_lengths(work.split(large.family, 2, most).encoded)
    plan = plan_activations(
        section.store,
        tokens={stack: sum(each) for stack, each in lengths.items()},
        layers={stack: of.layers for stack, of in dims.stacks.items()},
        large_width=dims.width,
        bridge_width=len(bridge.kept.residual),
        dtype=getattr(torch, section.dtype),
        budget=int(section.budget_gb * 1e9),
    )
    return ActivationCache(work.real or Path(), plan, lengths, work.rows()), plan


def cache_peak(
    cache: ActivationCache, large: LoadedModel, bridge: Bridge, work: Workload, params: Params
) -> MemoryReading:
    """Filling the cache of L's activations."""
    size = params.bridge.batch_size
    with measure("cache", [large.model]) as meter:
        cache.fill(
            work.split(large.family, 1, size).encoded,
            FrozenModel(large.model),
            large.family,
            bridge.kept.residual,
            batch_size=size,
            pad=0,
            device=work.device,
            step=meter.step,
        )
    return meter.reading


def bridge_peak(
    bridge: Bridge,
    family: Family,
    transfer: Transfer,
    cache: Activations,
    plan: Plan,
    work: Workload,
    params: Params,
    by_module: bool = False,
) -> MemoryReading:
    """Training module, maps and Bridge, and scoring with them."""
    section, size = params.bridge, params.bridge.batch_size
    ladder = start_ladder(plan, bridge.kept.residual, section.temperature, work.device)
    data = work.task(family, size)
    resident: list[Resident] = [bridge.model, *transfer.tensors, *ladder.tensors.values()]
    modules = bridge.model if by_module else None
    with measure("bridge", resident, modules=modules) as meter:
        fit_bridge(
            bridge,
            family,
            ladder,
            transfer,
            data,
            cache,
            cache,
            settings(size),
            learning_rate=1e-3,
            bridge_learning_rate=1e-3,
            train_bridge=section.train_bridge,
            seed=0,
            gradient_checkpointing=wants_checkpointing(section.gradient_checkpointing, bridge.model),
            hooks=Hooks(step=meter.step, quiet=True),
        )
        scored = data.eval
        predict_with_bridge(bridge, family, ladder, transfer, scored, cache, batch_size=size, pad=0, step=meter.step)
    return meter.reading


def _pair(small: Shape, large: Shape, work: Workload, params: Params) -> tuple[LoadedModel, LoadedModel]:
    pair: Pair = getattr(params.models, large.family)
    return shaped(small, getattr(torch, pair.small.dtype), work.device), _large(large, work, pair.large)


def _large(large: Shape, work: Workload, section: LargeCheckpoint) -> LoadedModel:
    """L where its section puts it. Without `memory_gb`, that all of it fits is taken for granted."""
    dtype = getattr(torch, section.dtype)
    loaded = shaped(large, dtype, work.device)
    quantise_fake(loaded, section.quantisation, dtype, work.device)
    if section.device_map == "auto" and section.memory_gb is not None:
        require_library("accelerate", "device_map: auto", "offload")
        from gfpet.estimate._offload import offload_fake

        offload_fake(loaded, dtype, work.device, int(section.memory_gb * 1e9), work.real)
    return loaded


def _pairs(small: LoadedModel, large: LoadedModel, params: Params) -> LayerAssignment:
    # `cka` looks at values, and pairs as many layers as `interpolate`; `derived` is in a file, and pairs fewer.
    asked = params.align.layer_assignment
    name: LayerAssignmentName = "interpolate" if asked == "cka" or asked == "derived" else asked
    return layer_assignment(name, small.family.depths_of(small.model), large.family.depths_of(large.model))


def align_peak(small: LoadedModel, large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Fitting `W_plug`, and how well it does."""
    section, frozen = params.align, FrozenModel(large.model)
    modules = params.modules
    targets = targets_by_kind(
        small.family, params.kinds, lora=modules.lora.target_modules, adapter=modules.adapter.target_modules
    )
    reads, writes = spaces_for(targets)
    pairs = _pairs(small, large, params)
    text = work.split(small.family, 2, section.batch_size).encoded
    found = [batch for _, batch in batches(text, size=section.batch_size, pad=0)]
    budget = int(section.budget_gb * 1e9)
    groups = layer_groups(pairs, small.family, small.model, large.model, reads=reads, writes=writes, budget=budget)
    # All groups of a stack are alike but the last, which may be smaller.
    first: dict[str, LayerAssignment] = {}
    for group, _ in groups:
        first.setdefault(next(iter(group)), group)
    with measure("align", [small.model, large.model]) as meter:
        for group in first.values():
            if section.method == "identity":
                here = [[space for space in spaces if stack_of(space) in group] for spaces in (reads, writes)]
                maps = identity_maps(small, large, group, reads=here[0], writes=here[1])
            else:
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
            meter.hold(*maps.named().values())
            explained(maps, small, frozen, found, group, step=meter.step)
            del maps
    return meter.reading


def prune_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Importance, cutting the Bridge out, and distilling L into it if that is asked for: the largest of them."""
    with measure("importance", [large.model]) as meter:
        _importance(large, work, params, meter.step)
    with measure("cut", [large.model]) as cutting, cutting.step():
        bridge = make_bridge(large, params)
    readings = [meter.reading, cutting.reading]
    if params.prune.heal.epochs:
        cut_out = LoadedModel(bridge.model, large.family, large.tokenizer, "Bridge")
        readings.append(heal_reading(cut_out, large, FrozenModel(large.model), work, params.prune.heal))
    return max(readings, key=lambda reading: reading.cpu_live_peak_bytes or 0)


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
