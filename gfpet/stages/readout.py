"""Stage `readout`: a readout for the large model, trained on its activations; the large model only runs forward.

Usage: python -m gfpet.stages.readout FAMILY TASK
"""

from __future__ import annotations

import sys

import torch

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Split, TaskData, head_of
from gfpet.method.readout import ReadoutInputs, fit_readout, layers_to_read, read_large, start_readout
from gfpet.stages._fit import log_outcome, training_hooks
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import load_examples, load_model, settings_of


def readout(family: str, task: str) -> None:
    """Write `readout-seed<seed>.safetensors`."""
    with stage("readout", f"{family}/{task}") as run:
        section = run.params.readout
        large = load_model(run.params, family, "large")
        data = load_examples(run.params, task, large)
        dims, head = large.family.dims(large.model.config), head_of(large.model).detach()
        layers_read = layers_to_read(dims, section.layers_read)
        splits = _read(run, large, data, layers_read, dims.width)
        del large  # what is trained from here on needs its activations and its output embedding alone
        head = head.float()
        for seed in run.params.seeds:
            name = f"readout-seed{seed}"
            module = start_readout(
                layers_read,
                dims.width,
                bottleneck=section.bottleneck,
                heads=section.heads,
                head_width=section.head_width,
                generator=torch.Generator().manual_seed(seed),
            ).to(head.device)
            with run.measure(f"train/{name}", resident=[head, *module.tensors.values()]) as meter:
                outcome = fit_readout(
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
    run: StageRun, large: LoadedModel, data: TaskData, layers_read: dict[str, tuple[int, ...]], width: int
) -> tuple[ReadoutInputs, ReadoutInputs]:
    """What the large model makes of the examples to learn from, and of those held out."""
    section, frozen = run.params.readout, FrozenModel(large.model)
    with run.measure("cache", resident=[large.model]) as meter:

        def read(name: str, split: Split) -> ReadoutInputs:
            return read_large(
                split.encoded,
                frozen,
                large.family,
                layers_read,
                width,
                run.work / f"activations-{name}",
                dtype=getattr(torch, section.dtype),
                budget=int(section.budget_gb * 1e9),
                batch_size=section.batch_size,
                pad=data.pad,
                device=large.device,
                step=meter.step,
            )

        inputs = read("train", data.train), read("dev", data.dev)
    run.log_value("large_forward_passes", frozen.forward_passes)
    run.log_value("large_forward_rows", frozen.forward_rows)
    return inputs


if __name__ == "__main__":
    main(lambda: readout(*sys.argv[1:]))
