"""Sums over tokens, added up batch by batch, that determine the regressions between two models' activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

from gfpet.lm.finite import require_finite
from gfpet.method.align._solve import procrustes_map, ridge_map
from gfpet.method.plug import LayerPairs

K = TypeVar("K")


class Moments:
    """Sums of one space in float64, for the layers and pairs of the layer assignment only."""

    def __init__(self, pairs: LayerPairs, reads: bool, writes: bool) -> None:
        self._pairs = pairs
        # A regression needs the products of its inputs with each other: L's for reads, S's for writes.
        self._squared = {"large": reads, "small": writes}
        self.count = 0
        """Tokens so far."""
        self.total: dict[tuple[str, int], Tensor] = {}
        """`[d]`, by model (`small`, `large`) and layer."""
        self.square: dict[tuple[str, int], Tensor] = {}
        """`[d, d]`, likewise."""
        self.cross: dict[tuple[int, int], Tensor] = {}
        """`[d_S, d_L]`, by pair (layer of L, layer of S)."""

    @property
    def size(self) -> int:
        """Number of values held."""
        return sum(tensor.numel() for held in (self.total, self.square, self.cross) for tensor in held.values())

    def add_small(self, layer: int, x: Float[Tensor, "tokens d_S"]) -> None:
        """Add the activation of a block of S, of one batch."""
        if any(layer == m for _, m in self._pairs):
            self._add_own("small", layer, x.double())

    def add_large(
        self, layer: int, y: Float[Tensor, "tokens d_L"], small: Callable[[int], Float[Tensor, "tokens d_S"]]
    ) -> None:
        """Add the activation of a block of L, of the same batch.

        Args:
            small: gives the activation of a block of S.
        """
        y = y.double()
        self._add_own("large", layer, y)
        for m in sorted({m for other, m in self._pairs if other == layer}):
            _accumulate(self.cross, (layer, m), small(m).double().T @ y)

    def _add_own(self, model: str, layer: int, x: Tensor) -> None:
        _accumulate(self.total, (model, layer), x.sum(0))
        if self._squared[model]:
            _accumulate(self.square, (model, layer), x.T @ x)


def _accumulate(into: dict[K, Tensor], key: K, value: Tensor) -> None:
    if key in into:
        into[key] += value
    else:
        into[key] = value


def map_of(
    sums: Moments,
    pair: tuple[int, int],
    direction: Literal["read", "write"],
    *,
    method: Literal["ridge", "procrustes"],
    ridge: float,
    centre: bool,
) -> tuple[Float[Tensor, "to from"], Float[Tensor, " to"]]:
    """The map of one pair of layers with its offset: `Q [d_S, d_L]`, `[d_S]` or `P [d_L, d_S]`, `[d_L]`.

    Raises:
        NumberError: the summed activations are not finite.
    """
    large, small = ("large", pair[0]), ("small", pair[1])
    x, y = (large, small) if direction == "read" else (small, large)
    mean_x, mean_y = sums.total[x] / sums.count, sums.total[y] / sums.count
    c_xx = sums.square[x] / sums.count
    c_yx = (sums.cross[pair] if direction == "read" else sums.cross[pair].T) / sums.count
    if centre:
        c_xx = c_xx - mean_x.outer(mean_x)
        c_yx = c_yx - mean_y.outer(mean_x)
    require_finite(
        {
            f"sums of S, block {pair[1]}": c_xx if direction == "write" else mean_y,
            f"sums with L, block {pair[0]}": c_yx,
        },
        "stage align: activations of the two models",
    )
    matrix = ridge_map(c_xx, c_yx, penalty=ridge) if method == "ridge" else procrustes_map(c_xx, c_yx)
    return matrix, mean_y - matrix @ mean_x
