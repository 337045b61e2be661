"""Measures a phase: time, live tensor bytes, RSS and CUDA memory."""

from __future__ import annotations

from gfpet.memory._labels import CATEGORIES, Category, Label, Resident, category
from gfpet.memory._live import LiveStorages
from gfpet.memory._measure import Measure, MemoryReading, Meter, Step, measure, no_step

__all__ = [
    "CATEGORIES",
    "Category",
    "Label",
    "LiveStorages",
    "Measure",
    "MemoryReading",
    "Meter",
    "Resident",
    "Step",
    "category",
    "measure",
    "no_step",
]
