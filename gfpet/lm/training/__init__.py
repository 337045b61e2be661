"""Training: one loop for modules, whole models and Bridges."""

from __future__ import annotations

from gfpet.lm.training._loop import (
    NO_HOOKS,
    Backward,
    Group,
    Hooks,
    Outcome,
    Settings,
    epoch_order,
    learning_rate_factor,
    train,
)
from gfpet.lm.training._observer import MakeHooks, Observer
from gfpet.lm.training._runs import fit_all, fit_module
from gfpet.lm.training._settings import loop_settings
from gfpet.lm.training._tuning import (
    Checkpointing,
    checkpointing,
    start_module,
    tune_all,
    tune_module,
    wants_checkpointing,
)

__all__ = [
    "NO_HOOKS",
    "Backward",
    "Checkpointing",
    "Group",
    "Hooks",
    "MakeHooks",
    "Observer",
    "Outcome",
    "Settings",
    "checkpointing",
    "epoch_order",
    "fit_all",
    "fit_module",
    "learning_rate_factor",
    "loop_settings",
    "start_module",
    "train",
    "tune_all",
    "tune_module",
    "wants_checkpointing",
]
