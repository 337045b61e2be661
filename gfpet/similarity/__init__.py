"""Similarity of two modules: of their weights after plugging, and of their effects on the same text."""

from __future__ import annotations

from gfpet.similarity._answers import Alike, alike, answer_change, at_blocks
from gfpet.similarity._compare import (
    EFFECT_MEASURES,
    WEIGHT_MEASURES,
    Comparison,
    TunedModules,
    compare_modules,
)
from gfpet.similarity._effects import Cells, Effects, compare_effects, effects, residuals
from gfpet.similarity._grid import Block, Grid, diagonal, grid_of, mean_over, numbered
from gfpet.similarity._models import ModelPair, TaskText
from gfpet.similarity._nulls import untrained_like
from gfpet.similarity._weights import compare_weights, factors, overlap, update_cosine

__all__ = [
    "EFFECT_MEASURES",
    "WEIGHT_MEASURES",
    "Alike",
    "Block",
    "Cells",
    "Comparison",
    "Effects",
    "Grid",
    "ModelPair",
    "TaskText",
    "TunedModules",
    "alike",
    "answer_change",
    "at_blocks",
    "compare_effects",
    "compare_modules",
    "compare_weights",
    "diagonal",
    "effects",
    "factors",
    "grid_of",
    "mean_over",
    "numbered",
    "overlap",
    "residuals",
    "untrained_like",
    "update_cosine",
]
