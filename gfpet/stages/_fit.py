"""Shared by the stages that train: the observer of training runs, and tuning a module of one model."""

from __future__ import annotations

from functools import partial

from gfpet.config import Optimisation
from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import Predictions, TaskData, score_split
from gfpet.lm.training import Hooks, Observer, Outcome, fit_module, loop_settings, start_module
from gfpet.memory import Meter
from gfpet.pipeline import Phase
from gfpet.stages._harness import StageRun


def observer(run: StageRun) -> Observer:
    """The stage's harness as an observer: phases go to its metrics, training runs to its curves and work folder."""
    return Observer(run.measure, partial(_training_hooks, run))


def _training_hooks(run: StageRun, name: str, meter: Meter) -> Hooks:
    """Curves, memory and a resumable checkpoint of a training run, by its name."""

    def log(series: str, step: int, value: float) -> None:
        run.log_curve(f"{name}/{series}", step, value)

    title = f"{run.label} {name}"
    return Hooks(checkpoint=run.work / f"{name}.safetensors", log=log, step=meter.step, title=title)


def log_outcome(run: StageRun, name: str, outcome: Outcome) -> None:
    """Write the outcome of a training run to the stage's values."""
    if outcome.resumed_at:
        run.say(f"{name}: resumed at step {outcome.resumed_at} of {outcome.steps}")
    run.log_value(f"{name}/steps", outcome.steps)
    run.log_value(f"{name}/best_epoch", outcome.best_epoch)
    run.log_value(f"{name}/dev_score", outcome.best_score)


def tune_kind(
    run: StageRun, loaded: LoadedModel, data: TaskData, section: Optimisation, *, kind: str, seed: int, rate: float
) -> Predictions:
    """Tune a module and write it to the stage's outputs; return the model's predictions on the evaluation split.

    Args:
        rate: learning rate.
    """
    name = f"{kind}-seed{seed}"
    module, outcome = fit_module(
        loaded,
        start_module(kind, loaded, getattr(run.params.modules, kind).model_dump(), data, seed=seed),
        data,
        loop_settings(section),
        name=name,
        learning_rate=rate,
        seed=seed,
        gradient_checkpointing=section.gradient_checkpointing,
        observer=observer(run),
    )
    log_outcome(run, name, outcome)
    module.save(run.output / f"{name}.safetensors")
    with inserted(loaded.model, loaded.family, module):
        return score_split(
            loaded,
            data.eval,
            phase=str(Phase("infer", tag=name)),
            batch_size=section.batch_size,
            pad=data.pad,
            measure=run.measure,
        )
