"""Stage `bridge`: module, `W_plug`, `W_down` and Bridge are fine-tuned on the task. Algorithm 1, steps 2, 4 and 5.

Usage: python -m gfpet.stages.bridge FAMILY TASK
"""

from __future__ import annotations

import sys

import torch

from gfpet.lm.families import Dims, Family
from gfpet.lm.models import FrozenModel, LoadedModel, find_device
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Predictions, TaskData
from gfpet.lm.training import wants_checkpointing
from gfpet.method.activation_cache import (
    ActivationCache,
    Activations,
    Plan,
    plan_activations,
    recomputed,
    row_lengths,
)
from gfpet.method.align import load_pairs
from gfpet.method.bridge import Transfer, fit_bridge, predict_with_bridge, start_ladder, start_transfer
from gfpet.method.plug import LayerAssignment, Projection, plugged, random_like
from gfpet.method.prune import Kept, load_bridge
from gfpet.stages._fit import log_outcome, training_hooks
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model, settings_of
from gfpet.stages._rows import RowMaker

_SPLITS = ("train", "dev", "eval")


def bridge(family: str, task: str) -> None:
    """Write the plugged modules, their `W_plug`, and the rows of method `bridge_alone`."""
    with stage("bridge", f"{family}/{task}") as run:
        run.log_results([])
        if run.carries_nothing():
            return
        if not run.params.bridge.epochs:
            _plug_untrained(run, family, task)
            return
        large = load_model(run.params, family, "large")
        data = load_examples(run.params, task, large)
        dims, shape, device = large.family.dims(large.model.config), large.family, large.device
        kept = load_bridge(OUTPUTS / "prune" / family, shape, device).kept
        plan = _plan(run, dims, kept, data)
        read = _activations(run, large, data, plan, kept)
        del large  # with a cache, nothing holds the large model from here on
        maker = RowMaker(run.params, family, task, ("small", "large"))
        for kind in run.params.kinds:
            for seed in run.params.seeds:
                name = f"{kind}-seed{seed}"
                module = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
                transfer = _start(run, family, module.to(device, torch.float32), shape, dims, kept, seed)
                said = _fit(run, name, family, shape, transfer, data, plan, read, seed)
                run.log_results(
                    *maker.rows("bridge_alone", said, data.eval, kind=kind, strategy="algorithm1", seed=seed)
                )


def _plug_untrained(run: StageRun, family: str, task: str) -> None:
    """Write the plugged modules alone, as they are before any training; takes neither a Bridge nor the large model."""
    run.say("bridge.epochs is 0: no Bridge is trained, and modules are plugged through W_plug as it starts.")
    pairs, device = _pairs(family), find_device(run.params.models.device)
    for kind in run.params.kinds:
        for seed in run.params.seeds:
            name = f"{kind}-seed{seed}"
            module = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
            module = module.to(device, torch.float32)
            with run.measure(f"plug/{name}", resident=module.tensors.values()) as meter, meter.step():
                maps = _w_plug(run, family, module, seed)
                copies = plugged(module, maps, pairs, divide_by_copies=run.params.plug.divide_by_copies)
                copies.detached().save(run.output / f"{name}.safetensors")


def _plan(run: StageRun, dims: Dims, kept: Kept, data: TaskData) -> Plan:
    section = run.params.bridge.activations
    lengths = [row_lengths(getattr(data, split).encoded) for split in _SPLITS]
    plan = plan_activations(
        section.store,
        tokens={stack: sum(sum(each[stack]) for each in lengths) for stack in dims.stacks},
        layers={stack: of.layers for stack, of in dims.stacks.items()},
        large_width=dims.width,
        bridge_width=len(kept.residual),
        dtype=getattr(torch, section.dtype),
        budget=int(section.budget_gb * 1e9),
    )
    run.say(f"activations of the large model: {plan}")
    run.log_value("activation_cache_bytes", plan.bytes)
    return plan


def _activations(run: StageRun, large: LoadedModel, data: TaskData, plan: Plan, kept: Kept) -> dict[str, Activations]:
    """A reader for each split: of a cache that is filled here, or of the large model itself."""
    frozen = FrozenModel(large.model)
    if plan.store == "recompute":
        return dict.fromkeys(_SPLITS, recomputed(frozen, large.family, plan, kept.residual))
    read: dict[str, Activations] = {}
    with run.measure("cache", resident=[large.model]) as meter:
        for split in _SPLITS:
            encoded = getattr(data, split).encoded
            cache = ActivationCache(run.work / f"activations-{split}", plan, row_lengths(encoded))
            cache.fill(
                encoded,
                frozen,
                large.family,
                kept.residual,
                batch_size=run.params.bridge.batch_size,
                pad=data.pad,
                device=large.device,
                step=meter.step,
            )
            read[split] = cache
    run.log_value("large_forward_passes", frozen.forward_passes)
    run.log_value("large_forward_rows", frozen.forward_rows)
    return read


def _start(run: StageRun, family: str, module: PetModule, shape: Family, dims: Dims, kept: Kept, seed: int) -> Transfer:
    """The module as tuned on S, `W_plug` from the closed form or at random, `W_down` as a selection."""
    section = run.params.plug
    return start_transfer(
        module,
        _w_plug(run, family, module, seed),
        _pairs(family),
        shape,
        kept,
        dims,
        divide_by_copies=section.divide_by_copies,
        update=section.update,
        update_rank=section.update_rank,
        w_down=run.params.bridge.w_down,
        seed=seed,
    )


def _pairs(family: str) -> LayerAssignment:
    return load_pairs(OUTPUTS / "align" / family / "layers.json")


def _w_plug(run: StageRun, family: str, module: PetModule, seed: int) -> Projection:
    """As it starts: from the closed form or at random."""
    device = next(iter(module.tensors.values())).device
    maps = Projection.open(OUTPUTS / "align" / family / "maps.safetensors", module, device)
    if run.params.plug.initialisation == "random":
        maps = random_like(maps, torch.Generator().manual_seed(seed)).to(device, torch.float32)
    return maps.shared() if run.params.plug.sharing == "shared" else maps


def _fit(
    run: StageRun,
    name: str,
    family: str,
    shape: Family,
    transfer: Transfer,
    data: TaskData,
    plan: Plan,
    read: dict[str, Activations],
    seed: int,
) -> Predictions:
    section = run.params.bridge
    device = next(iter(transfer.module.tensors.values())).device
    g = load_bridge(OUTPUTS / "prune" / family, shape, device)
    ladder = start_ladder(plan, g.kept.residual, section.temperature, device)
    run.log_value(f"{name}/w_plug_update", transfer.update)
    run.log_value(f"{name}/w_down", transfer.down)
    resident = [g.model, *transfer.tensors, *ladder.tensors.values()]
    with run.measure(f"train/{name}", resident=resident) as meter:
        outcome = fit_bridge(
            g,
            shape,
            ladder,
            transfer,
            data,
            read["train"],
            read["dev"],
            settings_of(section),
            learning_rate=section.learning_rate,
            bridge_learning_rate=section.bridge_learning_rate,
            train_bridge=section.train_bridge,
            seed=seed,
            gradient_checkpointing=wants_checkpointing(section.gradient_checkpointing, g.model),
            hooks=training_hooks(run, name, meter),
        )
    log_outcome(run, name, outcome)
    transfer.in_large().detached().save(run.output / f"{name}.safetensors")
    # Only what was trained: the rest is what stage align wrote.
    transfer.plug_update().save(run.output / f"{name}-w_plug.safetensors")
    with run.measure(f"infer/{name}", resident=resident) as meter:
        return predict_with_bridge(
            g,
            shape,
            ladder,
            transfer,
            data.eval,
            read["eval"],
            batch_size=run.params.bridge.batch_size,
            pad=data.pad,
            step=meter.step,
        )


if __name__ == "__main__":
    main(lambda: bridge(*sys.argv[1:]))
