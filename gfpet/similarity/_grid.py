"""Values over pairs of layers, as they stand in files: None for what is not defined, never NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Cell = tuple[int, int]
"""Layer of the one module, layer of the other."""
Grid = list[list[float | None]]


def grid_of(values: Mapping[Cell, float | None], rows: int, columns: int) -> Grid | None:
    """A heat map `rows × columns`, None where nothing is known; None where nothing is known at all."""
    grid = [[_finite(values.get((row, column))) for column in range(columns)] for row in range(rows)]
    return grid if any(value is not None for line in grid for value in line) else None


def mean_over(values: Iterable[float | None]) -> float | None:
    """Mean of what is defined; None of nothing."""
    known = [value for value in values if _finite(value) is not None]
    return math.fsum(value for value in known if value is not None) / len(known) if known else None


def diagonal(count: int) -> list[Cell]:
    """Each layer with itself: the cells of two modules of one model."""
    return [(layer, layer) for layer in range(count)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
