"""Closed-form `W_plug`: maps between the activations of two models on the same text. Needs forward passes only."""

from __future__ import annotations

from gfpet.method.align._cka import Side, cka, cka_debiased, cka_pair, layer_likeness
from gfpet.method.align._fit import Method, explained, fit_maps, spaces_for
from gfpet.method.align._groups import layer_groups, map_shapes
from gfpet.method.align._identity import identity_maps
from gfpet.method.align._layers_file import load_pairs, save_pairs
from gfpet.method.align._runs import Aligned, align_models
from gfpet.method.align._settings import AlignSettings, align_settings
from gfpet.method.align._solve import procrustes_map, ridge_map
from gfpet.method.align._text import read_through

__all__ = [
    "AlignSettings",
    "Aligned",
    "Method",
    "Side",
    "align_models",
    "align_settings",
    "cka",
    "cka_debiased",
    "cka_pair",
    "explained",
    "fit_maps",
    "identity_maps",
    "layer_groups",
    "layer_likeness",
    "load_pairs",
    "map_shapes",
    "procrustes_map",
    "read_through",
    "ridge_map",
    "save_pairs",
    "spaces_for",
]
