"""Training."""

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
from gfpet.lm.training._tuning import checkpointing, start_module, tune_all, tune_module, wants_checkpointing

__all__ = [
    "NO_HOOKS",
    "Backward",
    "Group",
    "Hooks",
    "Outcome",
    "Settings",
    "checkpointing",
    "epoch_order",
    "learning_rate_factor",
    "start_module",
    "train",
    "tune_all",
    "tune_module",
    "wants_checkpointing",
]
