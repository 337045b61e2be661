"""The work of stage `bridge` as measured phases: L's activations, then training and scoring for each module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfpet.lm.families import Dims, Family
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import EncodedExample, Predictions, TaskData
from gfpet.lm.training import Observer, Outcome, wants_checkpointing
from gfpet.memory import Measure, Resident
from gfpet.method.activation_cache import (
    ActivationCache,
    Activations,
    MakeRowStore,
    Plan,
    plan_activations,
    recomputed,
    row_lengths,
)
from gfpet.method.bridge._ladder import start_ladder
from gfpet.method.bridge._settings import BridgeSettings
from gfpet.method.bridge._train import Transfer, fit_bridge, predict_with_bridge, start_transfer
from gfpet.method.plug import LayerAssignment, Projection, start_w_plug
from gfpet.method.prune import Bridge, Kept
from gfpet.pipeline import Phase


def plan_for_bridge(
    texts: Iterable[Sequence[EncodedExample]], dims: Dims, kept: Kept, settings: BridgeSettings
) -> Plan:
    """Plan the activation cache for some sets of examples.

    Args:
        dims: the large model's sizes.

    Raises:
        ConfigError: the requested plan exceeds the budget.
    """
    lengths = [row_lengths(encoded) for encoded in texts]
    return plan_activations(
        settings.store,
        tokens={stack: sum(sum(each[stack]) for each in lengths) for stack in dims.stacks},
        layers={stack: of.layers for stack, of in dims.stacks.items()},
        large_width=dims.width,
        bridge_width=len(kept.residual),
        dtype=settings.dtype,
        budget=settings.budget,
    )


def read_activations(
    large: LoadedModel,
    frozen: FrozenModel,
    texts: Mapping[str, Sequence[EncodedExample]],
    plan: Plan,
    kept: Kept,
    folder: Path,
    *,
    batch_size: int,
    pad: int,
    measure: Measure,
    store: MakeRowStore | None = None,
) -> dict[str, Activations]:
    """A reader of the large model's activations for each set of examples, by name.

    Fills the caches (phase `cache`); the large model is not needed afterwards. With the plan `recompute` there is no
    cache, and the readers run the large model.

    Args:
        frozen: the large model, which counts its forward passes.
        folder: holds the caches.
        store: as in `ActivationCache`.
    """
    if plan.store == "recompute":
        return dict.fromkeys(texts, recomputed(frozen, large.family, plan, kept.residual))
    readers: dict[str, Activations] = {}
    with measure("cache", resident=[large.model]) as meter:
        for name, encoded in texts.items():
            cache = ActivationCache(folder / f"activations-{name}", plan, row_lengths(encoded), store)
            cache.fill(
                encoded,
                frozen,
                large.family,
                kept.residual,
                batch_size=batch_size,
                pad=pad,
                device=large.device,
                step=meter.step,
            )
            readers[name] = cache
    return readers


def transfer_of(
    module: PetModule,
    maps: Projection,
    pairs: LayerAssignment,
    family: Family,
    kept: Kept,
    dims: Dims,
    settings: BridgeSettings,
    *,
    seed: int,
) -> Transfer:
    """The module tuned on S, with `W_plug` and `W_down` before training.

    Args:
        maps: the closed form of `W_plug`, in its file (`Projection.open`).
        dims: the large model's sizes.
        seed: of random maps and low-rank updates.
    """
    device = next(iter(module.tensors.values())).device
    return start_transfer(
        module,
        start_w_plug(maps, settings.plug, seed=seed, device=device),
        pairs,
        family,
        kept,
        dims,
        divide_by_copies=settings.plug.divide_by_copies,
        update=settings.plug.update,
        update_rank=settings.plug.update_rank,
        w_down=settings.w_down,
        seed=seed,
    )


@dataclass(frozen=True)
class BridgeFit:
    """The result of training one module with a Bridge; the module itself is in its `Transfer`."""

    outcome: Outcome
    predictions: Predictions
    """Of the Bridge alone with the module (ladder side-tuning with S's module), on the evaluation split."""


def fit_and_score(
    bridge: Bridge,
    family: Family,
    transfer: Transfer,
    data: TaskData,
    plan: Plan,
    activations: Mapping[str, Activations],
    settings: BridgeSettings,
    *,
    name: str,
    seed: int,
    batch_size: int,
    observer: Observer,
) -> BridgeFit:
    """Train transfer, Bridge and ladder in place, then score with them; phases `train/<name>` and `infer/<name>`.

    Args:
        activations: readers for `train`, `dev` and `eval`.
        batch_size: examples per scoring batch.
    """
    device = next(iter(transfer.module.tensors.values())).device
    ladder = start_ladder(plan, bridge.kept.residual, settings.temperature, device)
    resident: list[Resident] = [bridge.model, *transfer.tensors, *ladder.tensors.values()]
    with observer.measure(str(Phase("train", tag=name)), resident=resident) as meter:
        outcome = fit_bridge(
            bridge,
            family,
            ladder,
            transfer,
            data,
            activations["train"],
            activations["dev"],
            settings.loop,
            learning_rate=settings.learning_rate,
            bridge_learning_rate=settings.bridge_learning_rate,
            train_bridge=settings.train_bridge,
            seed=seed,
            gradient_checkpointing=wants_checkpointing(settings.gradient_checkpointing, bridge.model),
            hooks=observer.hooks(name, meter),
        )
    with observer.measure(str(Phase("infer", tag=name)), resident=resident) as meter:
        predictions = predict_with_bridge(
            bridge,
            family,
            ladder,
            transfer,
            data.eval,
            activations["eval"],
            batch_size=batch_size,
            pad=data.pad,
            step=meter.step,
        )
    return BridgeFit(outcome, predictions)
