"""Stage `readout`, run on sizes alone with the functions that its program calls."""

from __future__ import annotations

from pathlib import Path

import torch

from gfpet.config import Params
from gfpet.estimate._methods import settings
from gfpet.estimate._workload import Workload
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import head_of
from gfpet.lm.training import Hooks
from gfpet.memory import MemoryReading, measure
from gfpet.method.readout import fit_readout, layers_to_read, read_large, start_readout


def readout_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Reading L, then training a readout without it: the larger of the two."""
    section, family, dims = params.readout, large.family, large.family.dims(large.model.config)
    layers_read, head = layers_to_read(dims, section.layers_read), head_of(large.model).detach()
    data = work.task(family, section.batch_size)
    most = max(work.batch, section.batch_size)
    with measure("cache", [large.model]) as reading:
        inputs = read_large(
            work.split(family, 2, most).encoded,
            FrozenModel(large.model),
            family,
            layers_read,
            dims.width,
            work.real or Path(),
            dtype=getattr(torch, section.dtype),
            budget=int(section.budget_gb * 1e9),
            batch_size=section.batch_size,
            pad=0,
            device=work.device,
            step=reading.step,
            store=work.rows(),
        )
    del large
    head = head.float()
    readout = start_readout(
        layers_read,
        dims.width,
        bottleneck=section.bottleneck,
        heads=section.heads,
        head_width=section.head_width,
        generator=torch.Generator(),
    ).to(work.device)
    with measure("train", [head, *readout.tensors.values()]) as training:
        fit_readout(
            readout,
            head,
            data,
            inputs,
            inputs,
            settings(section.batch_size),
            learning_rate=1e-3,
            seed=0,
            hooks=Hooks(step=training.step, quiet=True),
        )
    return max(reading.reading, training.reading, key=lambda one: one.cpu_live_peak_bytes or 0)
