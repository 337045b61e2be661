"""The Bridge: a small model pruned out of the large one, used to fit a module to the large one's spaces.

"Bridge alone" means the Bridge's own predictions with the module. The Bridge still reads L's activations then: this is
ladder side-tuning (`_ladder.py`) with S's module.
"""

from __future__ import annotations

from gfpet.method.bridge._ladder import Ladder, Rungs, laddered, start_ladder
from gfpet.method.bridge._runs import BridgeFit, fit_and_score, plan_for_bridge, read_activations, transfer_of
from gfpet.method.bridge._settings import BridgeSettings, bridge_settings
from gfpet.method.bridge._train import Transfer, fit_bridge, fit_ladder, predict_with_bridge, selection, start_transfer

__all__ = [
    "BridgeFit",
    "BridgeSettings",
    "Ladder",
    "Rungs",
    "Transfer",
    "bridge_settings",
    "fit_and_score",
    "fit_bridge",
    "fit_ladder",
    "laddered",
    "plan_for_bridge",
    "predict_with_bridge",
    "read_activations",
    "selection",
    "start_ladder",
    "start_transfer",
    "transfer_of",
]
