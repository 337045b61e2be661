"""Training runs as measured phases; stages `tune` and `reference` call them, and so does the memory estimate."""

from __future__ import annotations

from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import TaskData
from gfpet.lm.training._loop import Outcome, Settings
from gfpet.lm.training._observer import Observer
from gfpet.lm.training._tuning import Checkpointing, tune_all, tune_module, wants_checkpointing
from gfpet.pipeline import Phase


def fit_module(
    loaded: LoadedModel,
    module: PetModule,
    data: TaskData,
    settings: Settings,
    *,
    name: str,
    learning_rate: float,
    seed: int,
    gradient_checkpointing: Checkpointing,
    observer: Observer,
) -> tuple[PetModule, Outcome]:
    """Train a copy of a module on the frozen model; phase `train/<name>`. Returns the best epoch's module."""
    with observer.measure(str(Phase("train", tag=name)), resident=[loaded.model, *module.tensors.values()]) as meter:
        return tune_module(
            loaded,
            module,
            data,
            settings,
            learning_rate=learning_rate,
            seed=seed,
            gradient_checkpointing=wants_checkpointing(gradient_checkpointing, loaded.model),
            hooks=observer.hooks(name, meter),
        )


def fit_all(
    loaded: LoadedModel,
    data: TaskData,
    settings: Settings,
    *,
    name: str,
    learning_rate: float,
    seed: int,
    gradient_checkpointing: Checkpointing,
    observer: Observer,
) -> Outcome:
    """Full fine-tuning in place; phase `train/<name>`."""
    with observer.measure(str(Phase("train", tag=name)), resident=[loaded.model]) as meter:
        return tune_all(
            loaded,
            data,
            settings,
            learning_rate=learning_rate,
            seed=seed,
            gradient_checkpointing=wants_checkpointing(gradient_checkpointing, loaded.model),
            hooks=observer.hooks(name, meter),
        )
