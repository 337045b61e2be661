"""Tune a module of one model and score it: what `tune` does to S, `reference` does to L."""

from __future__ import annotations

from typing import Any

from gfpet.config import Optimisation
from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import Predictions, Split, TaskData, backbone_of, head_of, predict
from gfpet.lm.training import Hooks, Outcome, start_module, tune_module, wants_checkpointing
from gfpet.stages._harness import StageRun
from gfpet.stages._inputs import settings_of


def training_hooks(run: StageRun, name: str, meter: Any) -> Hooks:
    """Curves, memory and a resumable checkpoint under the name `<kind>-seed<seed>`."""

    def log(series: str, step: int, value: float) -> None:
        run.log_curve(f"{name}/{series}", step, value)

    title = f"{run.label} {name}"
    return Hooks(checkpoint=run.work / f"{name}.safetensors", log=log, step=meter.step, title=title)


def log_outcome(run: StageRun, name: str, outcome: Outcome) -> None:
    """What came of a training run, among the stage's values."""
    if outcome.resumed_at:
        run.say(f"{name}: resumed at step {outcome.resumed_at} of {outcome.steps}")
    run.log_value(f"{name}/steps", outcome.steps)
    run.log_value(f"{name}/best_epoch", outcome.best_epoch)
    run.log_value(f"{name}/dev_score", outcome.best_score)


def infer(run: StageRun, phase: str, loaded: LoadedModel, split: Split, *, batch_size: int, pad: int) -> Predictions:
    """Score a split with the model as it stands, measured as a phase."""
    with run.measure(phase, resident=[loaded.model]) as meter:
        return predict(
            split.encoded,
            backbone_of(loaded.model, loaded.family),
            head_of(loaded.model),
            batch_size=batch_size,
            pad=pad,
            step=meter.step,
        )


def fit_module(
    run: StageRun,
    loaded: LoadedModel,
    data: TaskData,
    section: Optimisation,
    *,
    kind: str,
    seed: int,
    learning_rate: float,
) -> tuple[PetModule, Predictions]:
    """A tuned module, written to the stage's outputs, and the model's predictions with it on the evaluation split."""
    name = f"{kind}-seed{seed}"
    module = start_module(kind, loaded, getattr(run.params.modules, kind).model_dump(), data, seed=seed)
    with run.measure(f"train/{name}", resident=[loaded.model, *module.tensors.values()]) as meter:
        module, outcome = tune_module(
            loaded,
            module,
            data,
            settings_of(section),
            learning_rate=learning_rate,
            seed=seed,
            gradient_checkpointing=wants_checkpointing(section.gradient_checkpointing, loaded.model),
            hooks=training_hooks(run, name, meter),
        )
    log_outcome(run, name, outcome)
    module.save(run.output / f"{name}.safetensors")
    with inserted(loaded.model, loaded.family, module):
        return module, infer(run, f"infer/{name}", loaded, data.eval, batch_size=section.batch_size, pad=data.pad)
