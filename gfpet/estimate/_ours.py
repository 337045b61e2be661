"""Every stage of our method under fake tensors, at true size, through the functions that the stage programs call."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from gfpet.config import DERIVE, LargeCheckpoint, Pair, Params
from gfpet.estimate._derive import derive_peak, prune_peak
from gfpet.estimate._methods import Peaks, infer
from gfpet.estimate._quantised import quantise_fake
from gfpet.estimate._readout import readout_peak
from gfpet.estimate._recorder import Recorder, two_steps
from gfpet.estimate._workload import Shape, Workload, make_bridge, shaped
from gfpet.lm.families import Family
from gfpet.lm.models import FrozenModel, LoadedModel, require_library
from gfpet.lm.modules import PetModule, inserted, targets_by_kind
from gfpet.lm.scoring import EncodedExample
from gfpet.lm.training import fit_module, loop_settings, start_module
from gfpet.memory import MemoryReading, measure
from gfpet.method.activation_cache import ActivationCache, Activations, Plan, row_lengths
from gfpet.method.align import align_models, align_settings, map_shapes, spaces_for
from gfpet.method.bridge import (
    BridgeSettings,
    Transfer,
    bridge_settings,
    fit_and_score,
    plan_for_bridge,
    read_activations,
    transfer_of,
)
from gfpet.method.plug import (
    LayerAssignment,
    LayerAssignmentName,
    Projection,
    layer_assignment,
    plug_untrained,
    spaces_of,
)
from gfpet.method.prune import Bridge
from gfpet.pipeline import ESTIMATED_PEAKS

SHARED = tuple(peak.name for peak in ESTIMATED_PEAKS if peak.sharing == "all")
OF_KIND = tuple(peak.name for peak in ESTIMATED_PEAKS if peak.sharing == "kind")


def shared_stages(small: Shape, large: Shape, work: Workload, params: Params, only: Collection[str] = SHARED) -> Peaks:
    """Peaks of the stages that all kinds share: `align`, `prune`, and `derive`, `cache` and `readout` if the parameters
    use them."""
    peaks: Peaks = {}
    with work.tensors():
        if "derive" in only and getattr(params.models, large.family).small.path == DERIVE:
            peaks["derive"] = derive_peak(_pair(small, large, work, params)[1], work, params)
        if "align" in only:
            peaks["align"] = align_peak(*_pair(small, large, work, params), work, params)
        if "prune" in only:
            # A new model: `fisher` needs gradients, and the L of another stage may be frozen for good.
            peaks["prune"] = prune_peak(_pair(small, large, work, params)[1], work, params)
        if "cache" in only and params.bridge.epochs:
            peaks |= cache_peak(_pair(small, large, work, params)[1], work, params)
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
    """Peaks of the stages for one kind of module: `tune S`, `infer`, and `bridge` if `bridge.epochs` is set."""
    peaks: Peaks = {}
    with work.tensors():
        s, loaded = _pair(small, large, work, params)
        family = loaded.family
        options = getattr(params.modules, kind).model_dump()
        module = start_module(kind, s, options, work.task(family), seed=0)
        if "tune S" in only:
            peaks["tune S"] = tune_peak(s, module, work, params, by_module)
        if not {"bridge", "infer"} & set(only):
            return peaks
        settings, pairs = bridge_settings(params.bridge, params.plug), _pairs(s, loaded, params)
        maps = _maps_in_file(s, loaded, module, pairs, params)
        if not params.bridge.epochs:
            if "infer" in only:
                start = plug_untrained(module, maps, pairs, settings.plug, name=kind, seed=0, measure=measure)
                peaks["infer"] = _infer_with(loaded, start, work, params)
            return peaks
        bridge = make_bridge(loaded, params)
        dims = family.dims(loaded.model.config)
        transfer = transfer_of(module, maps, pairs, family, bridge.kept, dims, settings, seed=0)
        del s, maps
        if "infer" in only:
            peaks["infer"] = _infer_with(loaded, transfer.in_large().detached(), work, params)
        if "bridge" in only:
            plan = _plan(loaded, bridge, work, params)
            activations = _activations(loaded, bridge, plan, work, params)
            del loaded
            peaks["bridge"] = bridge_peak(
                bridge, family, transfer, activations, plan, settings, work, params, by_module
            )
    return peaks


def tune_peak(
    small: LoadedModel, module: PetModule, work: Workload, params: Params, by_module: bool = False
) -> MemoryReading:
    """Stage `tune`: training a module of S."""
    section, recorder = params.tune, Recorder(by_module)
    fit_module(
        small,
        module,
        work.task(small.family, section.batch_size),
        two_steps(loop_settings(section)),
        name=module.kind,
        learning_rate=1e-3,
        seed=0,
        gradient_checkpointing=section.gradient_checkpointing,
        observer=recorder.observer,
    )
    return recorder.highest


def align_peak(small: LoadedModel, large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Stage `align`: fitting `W_plug`, and its R²."""
    section, recorder = params.align, Recorder()
    targets = targets_by_kind(small.family, {kind: getattr(params.modules, kind).model_dump() for kind in params.kinds})
    reads, writes = spaces_for(targets)
    text = work.split(small.family, 2, section.batch_size).encoded
    align_models(
        small,
        large,
        FrozenModel(large.model),
        text,
        text,
        _pairs(small, large, params),
        align_settings(section),
        reads=reads,
        writes=writes,
        file=None,
        pad=0,
        measure=recorder.measure,
        every_group=False,
    )
    return recorder.highest


def cache_peak(large: LoadedModel, work: Workload, params: Params) -> Peaks:
    """Stage `bridge`, filling the activation cache; empty if the plan recomputes activations."""
    recorder, size, bridge = Recorder(), params.bridge.batch_size, make_bridge(large, params)
    read_activations(
        large,
        FrozenModel(large.model),
        {"train": work.split(large.family, 1, size).encoded},
        _plan(large, bridge, work, params),
        bridge.kept,
        work.real or Path(),
        batch_size=size,
        pad=0,
        measure=recorder.measure,
        store=work.rows(),
    )
    return recorder.readings


def bridge_peak(
    bridge: Bridge,
    family: Family,
    transfer: Transfer,
    activations: Activations,
    plan: Plan,
    settings: BridgeSettings,
    work: Workload,
    params: Params,
    by_module: bool = False,
) -> MemoryReading:
    """Stage `bridge`: the higher peak of training (module, maps and Bridge) and scoring with the Bridge alone."""
    recorder, size = Recorder(by_module), params.bridge.batch_size
    fit_and_score(
        bridge,
        family,
        transfer,
        replace(work.task(family, settings.loop.batch_size), eval=work.split(family, 1, size)),
        plan,
        dict.fromkeys(("train", "dev", "eval"), activations),
        replace(settings, loop=two_steps(settings.loop)),
        name=transfer.module.kind,
        seed=0,
        batch_size=size,
        observer=recorder.observer,
    )
    return recorder.highest


def _infer_with(loaded: LoadedModel, module: PetModule, work: Workload, params: Params) -> MemoryReading:
    with inserted(loaded.model, loaded.family, module):
        return infer(loaded, work, params, *module.tensors.values())


def _cached_rows(family: Family, work: Workload, params: Params) -> list[EncodedExample]:
    """The examples to cache activations of: two batches of the largest batch size in use."""
    return work.split(family, 2, max(work.batch, params.bridge.batch_size)).encoded


def _plan(large: LoadedModel, bridge: Bridge, work: Workload, params: Params) -> Plan:
    settings, dims = bridge_settings(params.bridge, params.plug), large.family.dims(large.model.config)
    return plan_for_bridge([_cached_rows(large.family, work, params)], dims, bridge.kept, settings)


def _activations(large: LoadedModel, bridge: Bridge, plan: Plan, work: Workload, params: Params) -> Activations:
    """L's activations for the Bridge. Under fake tensors, a cache has the right sizes without being filled."""
    rows = _cached_rows(large.family, work, params)
    if work.real is None and plan.store != "recompute":
        return ActivationCache(Path(), plan, row_lengths(rows), work.rows())
    readers = read_activations(
        large,
        FrozenModel(large.model),
        {"train": rows},
        plan,
        bridge.kept,
        work.real or Path(),
        batch_size=params.bridge.batch_size,
        pad=0,
        measure=measure,
    )
    return readers["train"]


def _pair(small: Shape, large: Shape, work: Workload, params: Params) -> tuple[LoadedModel, LoadedModel]:
    pair: Pair = getattr(params.models, large.family)
    return shaped(small, getattr(torch, pair.small.dtype), work.device), _large(large, work, pair.large)


def _large(large: Shape, work: Workload, section: LargeCheckpoint) -> LoadedModel:
    """L, quantised and offloaded as its section says. Without `memory_gb`, all of it is assumed to fit."""
    dtype = getattr(torch, section.dtype)
    loaded = shaped(large, dtype, work.device)
    quantise_fake(loaded, section.quantisation, dtype, work.device)
    if section.device_map == "auto" and section.memory_gb is not None:
        require_library("accelerate", "device_map: auto", "offload")
        from gfpet.estimate._offload import offload_fake

        offload_fake(loaded, dtype, work.device, int(section.memory_gb * 1e9), work.real)
    return loaded


def _pairs(small: LoadedModel, large: LoadedModel, params: Params) -> LayerAssignment:
    # `interpolate` stands in for `cka`, which needs values and pairs as many layers, and for `derived`, which is in a
    # file and pairs fewer.
    asked = params.align.layer_assignment
    name: LayerAssignmentName = "interpolate" if asked == "cka" or asked == "derived" else asked
    return layer_assignment(name, small.family.depths_of(small.model), large.family.depths_of(large.model))


def _maps_in_file(
    small: LoadedModel, large: LoadedModel, module: PetModule, pairs: LayerAssignment, params: Params
) -> Projection:
    """The closed form of `W_plug` as stage `align` leaves it: in a file, read on each access."""
    reads, writes = spaces_of(module)
    centre = align_settings(params.align).centre
    shapes = map_shapes(small, large, pairs, reads=reads, writes=writes, centre=centre)
    return Projection.unread(shapes, lambda name: torch.zeros(shapes[name]))
