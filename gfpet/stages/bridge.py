"""Stage `bridge`: fine-tunes module, `W_plug`, `W_down` and Bridge on the task. Algorithm 1, steps 2, 4 and 5.

The rows `bridge_alone` score the Bridge's own predictions. They still need L's activations: this is ladder side-tuning
with S's module.

Usage: python -m gfpet.stages.bridge FAMILY TASK
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from gfpet.lm.models import FrozenModel, find_device
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.method.bridge import bridge_settings, fit_and_score, plan_for_bridge, read_activations, transfer_of
from gfpet.method.plug import LayerAssignment, Projection, plug_settings, plug_untrained
from gfpet.method.prune import load_bridge
from gfpet.stages._fit import log_outcome, observer
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model
from gfpet.stages._rows import RowMaker


def bridge(family: str, task: str) -> None:
    """Write the plugged modules, their `W_plug`, and the rows of method `bridge_alone`."""
    with stage("bridge", f"{family}/{task}") as run:
        run.log_results([])
        if run.carries_nothing():
            return
        pairs = load_pairs(OUTPUTS / "align" / family / "layers.json")
        if run.params.bridge.epochs:
            _train(run, family, task, pairs)
            return
        run.say("bridge.epochs is 0: no Bridge is trained, and modules are plugged through W_plug as it starts.")
        settings, device = plug_settings(run.params.plug), find_device(run.params.models.device)
        for name, _, seed, module, maps in _tuned(run, family, task, device):
            plugged = plug_untrained(module, maps, pairs, settings, name=name, seed=seed, measure=run.measure)
            plugged.save(run.output / f"{name}.safetensors")


def _tuned(
    run: StageRun, family: str, task: str, device: torch.device
) -> Iterator[tuple[str, str, int, PetModule, Projection]]:
    """Name, kind, seed, the module tuned on S, and the closed form of its `W_plug`, in its file (`Projection.open`)."""
    for kind in run.params.kinds:
        for seed in run.params.seeds:
            name = f"{kind}-seed{seed}"
            module = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
            module = module.to(device, torch.float32)
            yield (
                name,
                kind,
                seed,
                module,
                Projection.open(OUTPUTS / "align" / family / "maps.safetensors", module, device),
            )


def _train(run: StageRun, family: str, task: str, pairs: LayerAssignment) -> None:
    large = load_model(run.params, family, "large")
    data = load_examples(run.params, task, large)
    shape, device, dims = large.family, large.device, large.family.dims(large.model.config)
    folder, settings = OUTPUTS / "prune" / family, bridge_settings(run.params.bridge, run.params.plug)
    kept, batch_size = load_bridge(folder, shape, device).kept, run.params.bridge.batch_size
    texts = {"train": data.train.encoded, "dev": data.dev.encoded, "eval": data.eval.encoded}
    plan, frozen = plan_for_bridge(texts.values(), dims, kept, settings), FrozenModel(large.model)
    run.say(f"activations of the large model: {plan}")
    run.log_value("activation_cache_bytes", plan.bytes)
    activations = read_activations(
        large, frozen, texts, plan, kept, run.work, batch_size=batch_size, pad=data.pad, measure=run.measure
    )
    if plan.store != "recompute":
        run.log_value("large_forward_passes", frozen.forward_passes)
        run.log_value("large_forward_rows", frozen.forward_rows)
    del large, frozen  # with a cache, this frees the large model
    maker, observing = RowMaker(run.params, family, task, ("small", "large")), observer(run)
    for name, kind, seed, module, maps in _tuned(run, family, task, device):
        transfer = transfer_of(module, maps, pairs, shape, kept, dims, settings, seed=seed)
        run.log_value(f"{name}/w_plug_update", transfer.update)
        run.log_value(f"{name}/w_down", transfer.down)
        fit = fit_and_score(
            load_bridge(folder, shape, device),
            shape,
            transfer,
            data,
            plan,
            activations,
            settings,
            name=name,
            seed=seed,
            batch_size=batch_size,
            observer=observing,
        )
        log_outcome(run, name, fit.outcome)
        transfer.in_large().detached().save(run.output / f"{name}.safetensors")
        # Only the trained part: the rest is in the output of stage align.
        transfer.plug_update().save(run.output / f"{name}-w_plug.safetensors")
        rows = maker.rows("bridge_alone", fit.predictions, data.eval, kind=kind, strategy="algorithm1", seed=seed)
        run.log_results(*rows)


if __name__ == "__main__":
    main(lambda: bridge(*sys.argv[1:]))
