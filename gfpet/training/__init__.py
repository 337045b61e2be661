"""Training."""

from __future__ import annotations

from gfpet.training._loop import Backward, Group, Outcome, Settings, epoch_order, learning_rate_factor, train

__all__ = ["Backward", "Group", "Outcome", "Settings", "epoch_order", "learning_rate_factor", "train"]
