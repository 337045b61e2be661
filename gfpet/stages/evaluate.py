"""Stage `evaluate`: the large model with the plugged module, forward only. Algorithm 1, step 6.

Usage: python -m gfpet.stages.evaluate FAMILY TASK
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

import torch

from gfpet.align import load_pairs
from gfpet.frozen import FrozenModel
from gfpet.models import LoadedModel
from gfpet.modules import PetModule, inserted
from gfpet.plug import Projection, plugged, random_like
from gfpet.scoring import Predictions, head_of, predict, trunk_of
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model
from gfpet.stages._rows import RowMaker
from gfpet.task_data import TaskData


def evaluate(family: str, task: str) -> None:
    """Write the rows of methods `zero_shot`, `plugged` and `random_w_plug`."""
    with stage("evaluate", f"{family}/{task}") as run:
        params = run.params
        # Before L is there: the maps of a large pair are a good part of its size, the plugged modules are not.
        controls = _random(run, family, task) if "random_w_plug" in params.evaluate.controls else {}
        large = load_model(params, family, "large")
        frozen = FrozenModel(large.model)
        data = load_examples(params, task, large)
        maker = RowMaker(params, family, task, ("small", "large"))

        if "zero_shot" in params.evaluate.controls:
            said = _infer(run, "infer/zero-shot", large, frozen, data, None)
            run.log_results(maker.rows("zero_shot", said, data.eval))
        for kind in params.kinds:
            for seed in params.seeds:
                name = f"{kind}-seed{seed}"
                module = PetModule.load(OUTPUTS / "bridge" / family / task / f"{name}.safetensors")
                said = _infer(run, f"infer/{name}", large, frozen, data, module)
                run.log_results(maker.rows("plugged", said, data.eval, kind=kind, strategy="paper", seed=seed))
                if "random_w_plug" in params.evaluate.controls:
                    said = _infer(run, f"infer-random/{name}", large, frozen, data, controls[name])
                    run.log_results(maker.rows("random_w_plug", said, data.eval, kind=kind, seed=seed))
        run.log_value("large_forward_passes", frozen.forward_passes)
        run.log_value("large_forward_rows", frozen.forward_rows)


def _random(run: StageRun, family: str, task: str) -> dict[str, PetModule]:
    """S's modules plugged through random maps, by `<kind>-seed<seed>`."""
    pairs = load_pairs(OUTPUTS / "align" / family / "layers.json")
    found = {}
    for kind in run.params.kinds:
        for seed in run.params.seeds:
            name = f"{kind}-seed{seed}"
            tuned = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
            maps = Projection.load(OUTPUTS / "align" / family / "maps.safetensors", tuned)
            drawn = random_like(maps, torch.Generator().manual_seed(seed))
            found[name] = plugged(tuned, drawn, pairs, divide_by_copies=run.params.plug.divide_by_copies).detached()
    return found


def _infer(
    run: StageRun, phase: str, large: LoadedModel, frozen: FrozenModel, data: TaskData, module: PetModule | None
) -> Predictions:
    if module is not None:
        module = module.to(large.device, torch.float32)
    resident = [large.model, *(module.tensors.values() if module else ())]
    with run.measure(phase, resident=resident) as meter, frozen.forward_only() as model:
        insert: AbstractContextManager[None] = inserted(model, large.family, module) if module else nullcontext()
        with insert:
            return predict(
                data.eval.encoded,
                trunk_of(model, large.family),
                head_of(model),
                batch_size=run.params.evaluate.batch_size,
                pad=data.pad,
                step=meter.step,
            )


if __name__ == "__main__":
    main(lambda: evaluate(*sys.argv[1:]))
