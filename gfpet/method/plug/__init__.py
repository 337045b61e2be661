"""Carrying a module from one model to another: layer assignments, `W_plug`, `W_down`."""

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

__all__ = [
    "LOW_RANK",
    "LayerAssignment",
    "LayerAssignmentName",
    "LayerPairs",
    "MapsWriter",
    "Projection",
    "duplicated",
    "layer_assignment",
    "layer_pairs",
    "plugged",
    "projected",
    "random_like",
    "spaces_of",
    "with_embeddings",
]
