"""Stages `derive` and `prune` under fake tensors: both cut a model out of the large one."""

from __future__ import annotations

from dataclasses import replace

from gfpet.config import Heal, Params
from gfpet.errors import ModelError
from gfpet.estimate._recorder import Recorder, two_steps
from gfpet.estimate._workload import Shape, Workload
from gfpet.lm.families import find_family
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import batches
from gfpet.memory import MemoryReading
from gfpet.method.derive import (
    LOOKED_AT,
    READ_AT_ONCE,
    derive_settings,
    derive_small,
    evenly,
    heal_cut,
    heal_settings,
)
from gfpet.method.prune import cut_bridge, prune_settings


def derived_shape(large: Shape, params: Params) -> Shape:
    """The sizes of the small model that `derive` makes; they depend only on the number of blocks kept.

    Raises:
        ModelError: the family does not support fewer blocks (`Family.thinned`).
        ConfigError: `derive.layers` exceeds the large model's depth.
    """
    family = find_family(large.family).for_config(large.config)
    if family.thinned is None:
        raise ModelError(f"family {family.name} does not say how a model with fewer blocks is made of its models.")
    depths = {name: stack.layers for name, stack in family.dims(large.config).stacks.items()}
    config = family.thinned(large.config, evenly(depths, params.derive.layers))
    return Shape(f"{large.name} with fewer blocks", large.family, config)


def derive_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Stage `derive`: the highest peak of choosing the blocks, cutting, and healing."""
    section, frozen, recorder = params.derive, FrozenModel(large.model), Recorder()
    count = min(READ_AT_ONCE, section.examples)
    # Enough batches for LOOKED_AT tokens; `cka` holds the activations of all of them.
    needed = -(-min(LOOKED_AT, section.examples * work.length) // (count * work.length))
    text = work.split(large.family, needed, count).encoded
    made = derive_small(large, frozen, text, derive_settings(section), pad=0, measure=recorder.measure)
    if section.heal.epochs:
        _healed(made.small, large, frozen, work, section.heal, recorder)
    return recorder.highest


def prune_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Stage `prune`: the highest peak of importance, cutting, and healing if `prune.heal.epochs` is set."""
    section, settings, recorder = params.prune, prune_settings(params.prune), Recorder()
    text = work.split(large.family, 2, settings.batch_size).encoded
    found = [batch for _, batch in batches(text, size=settings.batch_size, pad=0)]
    bridge = cut_bridge(large, found, settings, measure=recorder.measure)
    if section.heal.epochs:
        cut_out = LoadedModel(bridge.model, large.family, large.tokenizer, "Bridge")
        _healed(cut_out, large, FrozenModel(large.model), work, section.heal, recorder)
    return recorder.highest


def _healed(
    cut: LoadedModel, large: LoadedModel, frozen: FrozenModel, work: Workload, section: Heal, recorder: Recorder
) -> None:
    settings = heal_settings(section)
    heal_cut(
        cut,
        large,
        frozen,
        work.split(large.family, 2, section.batch_size).encoded,
        work.split(large.family, 1, section.batch_size).encoded,
        replace(settings, loop=two_steps(settings.loop)),
        pad=0,
        observer=recorder.observer,
    )
