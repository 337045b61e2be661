"""The Bridge: a small model pruned out of the large one, with which a module is fitted to the large one's spaces."""

from __future__ import annotations

from gfpet.method.bridge._ladder import Ladder, Rungs, laddered, start_ladder
from gfpet.method.bridge._train import Transfer, fit_bridge, fit_ladder, predict_with_bridge, selection, start_transfer

__all__ = [
    "Ladder",
    "Rungs",
    "Transfer",
    "fit_bridge",
    "fit_ladder",
    "laddered",
    "predict_with_bridge",
    "selection",
    "start_ladder",
    "start_transfer",
]
