"""Carrying a module from one model to another: layer maps, `W_plug`, `W_down`."""

from __future__ import annotations

from gfpet.plug._layers import LayerMap, LayerMapName, layer_map
from gfpet.plug._projection import Projection, duplicated, plugged, projected, random_like, spaces_of

__all__ = [
    "LayerMap",
    "LayerMapName",
    "Projection",
    "duplicated",
    "layer_map",
    "plugged",
    "projected",
    "random_like",
    "spaces_of",
]
