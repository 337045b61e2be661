"""Pruning the large model to the Bridge: importance, choice of coordinates, cut."""

from __future__ import annotations

from gfpet.method.prune._cut import Bridge, Kept, KeptStack, choose, cut, load_bridge, reduced_dims, save_bridge
from gfpet.method.prune._importance import (
    Importance,
    StackImportance,
    activation_importance,
    fisher_importance,
    magnitude_importance,
)
from gfpet.method.prune._runs import cut_bridge
from gfpet.method.prune._settings import PruneSettings, prune_settings

__all__ = [
    "Bridge",
    "Importance",
    "Kept",
    "KeptStack",
    "PruneSettings",
    "StackImportance",
    "activation_importance",
    "choose",
    "cut",
    "cut_bridge",
    "fisher_importance",
    "load_bridge",
    "magnitude_importance",
    "prune_settings",
    "reduced_dims",
    "save_bridge",
]
