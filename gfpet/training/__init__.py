"""Training."""

from __future__ import annotations

from gfpet.training._loop import (
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

__all__ = [
    "NO_HOOKS",
    "Backward",
    "Group",
    "Hooks",
    "Outcome",
    "Settings",
    "epoch_order",
    "learning_rate_factor",
    "train",
]
