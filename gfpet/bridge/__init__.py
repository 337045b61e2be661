"""The Bridge: a small model pruned out of the large one, with which a module is fitted to the large one's spaces."""

from __future__ import annotations

from gfpet.bridge._activations import (
    ActivationCache,
    Activations,
    MappedFile,
    Plan,
    RowStore,
    plan_activations,
    recomputed,
    row_lengths,
)
from gfpet.bridge._ladder import Ladder, Rungs, laddered, start_ladder
from gfpet.bridge._train import Transfer, fit_bridge, fit_ladder, predict_with_bridge, selection, start_transfer

__all__ = [
    "ActivationCache",
    "Activations",
    "Ladder",
    "MappedFile",
    "Plan",
    "RowStore",
    "Rungs",
    "Transfer",
    "fit_bridge",
    "fit_ladder",
    "laddered",
    "plan_activations",
    "predict_with_bridge",
    "recomputed",
    "row_lengths",
    "selection",
    "start_ladder",
    "start_transfer",
]
