"""Stage `readout`: trains a readout on the large model's activations; the large model runs forward only.

Usage: python -m gfpet.stages.readout FAMILY TASK
"""

from __future__ import annotations

import sys

from gfpet.lm.models import FrozenModel
from gfpet.method.readout import cache_inputs, readout_settings, train_readout
from gfpet.stages._fit import log_outcome, observer
from gfpet.stages._harness import main, stage
from gfpet.stages._inputs import load_examples, load_model


def readout(family: str, task: str) -> None:
    """Write `readout-seed<seed>.safetensors`."""
    with stage("readout", f"{family}/{task}") as run:
        settings = readout_settings(run.params.readout)
        large = load_model(run.params, family, "large")
        data, frozen = load_examples(run.params, task, large), FrozenModel(large.model)
        read = cache_inputs(
            large,
            frozen,
            {"train": data.train.encoded, "dev": data.dev.encoded},
            settings,
            run.work,
            batch_size=run.params.readout.batch_size,
            pad=data.pad,
            measure=run.measure,
        )
        run.log_value("large_forward_passes", frozen.forward_passes)
        run.log_value("large_forward_rows", frozen.forward_rows)
        del large, frozen  # training needs only the cached activations and the output embedding
        read = read.in_float32()
        for seed in run.params.seeds:
            name = f"readout-seed{seed}"
            module, outcome = train_readout(read, data, settings, name=name, seed=seed, observer=observer(run))
            log_outcome(run, name, outcome)
            module.save(run.output / f"{name}.safetensors")


if __name__ == "__main__":
    main(lambda: readout(*sys.argv[1:]))
