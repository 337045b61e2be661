"""Carrying a module from one model to another: layer maps, `W_plug`, `W_down`."""

from __future__ import annotations

from gfpet.plug._layers import LayerMap, LayerMapName, LayerPairs, layer_map, layer_pairs
from gfpet.plug._maps_file import MapsWriter
from gfpet.plug._plugged import duplicated, plugged, projected, random_like
from gfpet.plug._projection import LOW_RANK, Projection, spaces_of

__all__ = [
    "LOW_RANK",
    "LayerMap",
    "LayerMapName",
    "LayerPairs",
    "MapsWriter",
    "Projection",
    "duplicated",
    "layer_map",
    "layer_pairs",
    "plugged",
    "projected",
    "random_like",
    "spaces_of",
]
