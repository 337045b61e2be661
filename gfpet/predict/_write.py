"""Stage `write`, run on sizes alone with the functions that its program calls."""

from __future__ import annotations

from pathlib import Path

import torch

from gfpet.config import Params
from gfpet.frozen import FrozenModel
from gfpet.memory import MemoryReading, measure
from gfpet.models import LoadedModel
from gfpet.predict._methods import settings
from gfpet.predict._workload import Workload
from gfpet.scoring import head_of
from gfpet.training import Hooks
from gfpet.write import fit_write, read_large, start_write, taps_of


def write_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Reading L, then training a direct write without it: the larger of the two."""
    section, family, dims = params.write, large.family, large.family.dims(large.model.config)
    taps, head = taps_of(dims, section.taps), head_of(large.model).detach()
    data = work.task(family, section.batch_size)
    most = max(work.batch, section.batch_size, params.evaluate.batch_size)
    with measure("cache", [large.model]) as reading:
        inputs = read_large(
            work.split(family, 2, most).encoded,
            FrozenModel(large.model),
            family,
            taps,
            dims.width,
            work.real or Path(),
            dtype=getattr(torch, section.dtype),
            budget=int(section.budget_gb * 1e9),
            batch_size=params.evaluate.batch_size,
            pad=0,
            device=work.device,
            step=reading.step,
            store=work.rows(),
        )
    del large
    head = head.float()
    write = start_write(
        taps,
        dims.width,
        bottleneck=section.bottleneck,
        heads=section.heads,
        head_width=section.head_width,
        generator=torch.Generator(),
    ).to(work.device)
    with measure("train", [head, *write.tensors.values()]) as training:
        fit_write(
            write,
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
