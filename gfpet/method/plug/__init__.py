"""Transfers a module from one model to another: layer assignments, `W_plug`, `W_down`."""

from __future__ import annotations

from gfpet.method.plug._layers import (
    LayerAssignment,
    LayerAssignmentName,
    LayerPairs,
    layer_assignment,
    layer_pairs,
    with_embeddings,
)
from gfpet.method.plug._maps_file import MapsWriter
from gfpet.method.plug._plugged import duplicated, plugged, projected, random_like
from gfpet.method.plug._projection import LOW_RANK, Projection, spaces_of
from gfpet.method.plug._runs import plug_untrained, start_w_plug
from gfpet.method.plug._settings import PlugSettings, plug_settings

__all__ = [
    "LOW_RANK",
    "LayerAssignment",
    "LayerAssignmentName",
    "LayerPairs",
    "MapsWriter",
    "PlugSettings",
    "Projection",
    "duplicated",
    "layer_assignment",
    "layer_pairs",
    "plug_settings",
    "plug_untrained",
    "plugged",
    "projected",
    "random_like",
    "spaces_of",
    "start_w_plug",
    "with_embeddings",
]
