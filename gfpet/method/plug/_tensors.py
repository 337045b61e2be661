"""Tensors that stay in their file, and selections of coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor


class Unread(Mapping[str, Tensor]):
    """Tensors by space, made anew on each access and never kept."""

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._makers = makers

    def __getitem__(self, space: str) -> Tensor:
        return self._makers[space]()

    def __contains__(self, space: object) -> bool:
        return space in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def taken(tensor: Tensor, index: Tensor, axis: int) -> Tensor:
    """Select coordinates along an axis, by each layer's own indices `[n, kept]`."""
    lines = index.to(tensor.device).view(len(index), *[-1 if at == axis else 1 for at in range(1, tensor.ndim)])
    shape = [*tensor.shape]
    shape[axis] = index.shape[1]
    return tensor.gather(axis, lines.expand(shape))


def width_of(maps: Mapping[str, Tensor], space: str, axis: int) -> int:
    """The width of a map along an axis; may read the map from its file."""
    return maps[space].shape[axis]


def spread(right: Tensor, index: Tensor, width: Callable[[], int]) -> Tensor:
    """Scatter `[n, k, kept]` into `[n, k, d_to]`, zeros elsewhere."""
    whole = right.new_zeros(*right.shape[:2], width())
    return whole.scatter(-1, index.to(right.device).unsqueeze(1).expand_as(right), right)
