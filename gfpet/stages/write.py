"""Stage `write`: a direct write for the large model, trained on its activations; the large model only runs forward.

Usage: python -m gfpet.stages.write FAMILY TASK
"""

from __future__ import annotations

import sys

import torch

from gfpet.frozen import FrozenModel
from gfpet.models import LoadedModel
from gfpet.scoring import head_of
from gfpet.stages._fit import log_outcome, training_hooks
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import load_examples, load_model, settings_of
from gfpet.task_data import Split, TaskData
from gfpet.write import WriteInputs, fit_write, read_large, start_write, taps_of


def write(family: str, task: str) -> None:
    """Write `write-seed<seed>.safetensors`."""
    with stage("write", f"{family}/{task}") as run:
        section = run.params.write
        large = load_model(run.params, family, "large")
        data = load_examples(run.params, task, large)
        dims, head = large.family.dims(large.model.config), head_of(large.model).detach()
        taps = taps_of(dims, section.taps)
        splits = _read(run, large, data, taps, dims.width)
        del large  # what is trained from here on needs its activations and its output embedding alone
        head = head.float()
        for seed in run.params.seeds:
            name = f"write-seed{seed}"
            module = start_write(
                taps,
                dims.width,
                bottleneck=section.bottleneck,
                heads=section.heads,
                head_width=section.head_width,
                generator=torch.Generator().manual_seed(seed),
            ).to(head.device)
            with run.measure(f"train/{name}", resident=[head, *module.tensors.values()]) as meter:
                outcome = fit_write(
                    module,
                    head,
                    data,
                    *splits,
                    settings_of(section),
                    learning_rate=section.learning_rate,
                    seed=seed,
                    hooks=training_hooks(run, name, meter),
                )
            log_outcome(run, name, outcome)
            module.save(run.output / f"{name}.safetensors")


def _read(
    run: StageRun, large: LoadedModel, data: TaskData, taps: dict[str, tuple[int, ...]], width: int
) -> tuple[WriteInputs, WriteInputs]:
    """What the large model makes of the examples to learn from, and of those held out."""
    section, frozen = run.params.write, FrozenModel(large.model)
    with run.measure("cache", resident=[large.model]) as meter:

        def read(name: str, split: Split) -> WriteInputs:
            return read_large(
                split.encoded,
                frozen,
                large.family,
                taps,
                width,
                run.work / f"activations-{name}",
                dtype=getattr(torch, section.dtype),
                budget=int(section.budget_gb * 1e9),
                batch_size=run.params.evaluate.batch_size,
                pad=data.pad,
                device=large.device,
                step=meter.step,
            )

        inputs = read("train", data.train), read("dev", data.dev)
    run.log_value("large_forward_passes", frozen.forward_passes)
    run.log_value("large_forward_rows", frozen.forward_rows)
    return inputs


if __name__ == "__main__":
    main(lambda: write(*sys.argv[1:]))
