"""Values over pairs of layers, in the form of the result files: undefined values are None, never NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

Block = tuple[str, int]
"""Stack and layer."""
Cell = tuple[int, int]
"""Block of the first model, block of the second, each by its number (`numbered`)."""
Grid = list[list[float | None]]


def numbered(depths: Mapping[str, int]) -> dict[Block, int]:
    """Number the blocks of all stacks consecutively, in running order.

    >>> numbered({"encoder": 2, "decoder": 1})
    {('encoder', 0): 0, ('encoder', 1): 1, ('decoder', 0): 2}
    """
    blocks = [(stack, layer) for stack, depth in depths.items() for layer in range(depth)]
    return {block: number for number, block in enumerate(blocks)}


def grid_of(values: Mapping[Cell, float | None], rows: int, columns: int) -> Grid | None:
    """A heat map `rows × columns` with None for unknown cells; None if no cell is known."""
    grid = [[_finite(values.get((row, column))) for column in range(columns)] for row in range(rows)]
    return grid if any(value is not None for line in grid for value in line) else None


def mean_over(values: Iterable[float | None]) -> float | None:
    """Mean of the defined values; None if there are none."""
    known = [value for value in values if _finite(value) is not None]
    return math.fsum(value for value in known if value is not None) / len(known) if known else None


def diagonal(count: int) -> list[Cell]:
    """Each layer paired with itself: the cells for two modules of one model."""
    return [(layer, layer) for layer in range(count)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
