"""Stage `readout` under fake tensors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gfpet.config import Params
from gfpet.estimate._recorder import Recorder, two_steps
from gfpet.estimate._workload import Workload
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.memory import MemoryReading
from gfpet.method.readout import cache_inputs, readout_settings, train_readout


def readout_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """The higher peak of caching L's activations and training a readout without L."""
    recorder, settings, family = Recorder(), readout_settings(params.readout), large.family
    size = settings.loop.batch_size
    most = max(work.batch, size)
    read = cache_inputs(
        large,
        FrozenModel(large.model),
        {"train": work.split(family, 2, most).encoded},
        settings,
        work.real or Path(),
        batch_size=params.readout.batch_size,
        pad=0,
        measure=recorder.measure,
        store=work.rows(),
    )
    del large
    read = replace(read, inputs=dict.fromkeys(("train", "dev"), read.inputs["train"])).in_float32()
    settings = replace(settings, loop=two_steps(settings.loop))
    train_readout(read, work.task(family, size), settings, name="readout", seed=0, observer=recorder.observer)
    return recorder.highest
