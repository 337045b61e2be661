"""Sizes of a model, stack by stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StackDims:
    """Sizes of one stack of blocks."""

    layers: int
    """n: number of blocks."""
    heads: int
    """Query heads per attention."""
    kv_heads: int
    """Key/value heads; `heads / kv_heads` query heads share each."""
    head_width: int
    """Width of one head."""
    ffn: int
    """Inner width of the feed-forward part."""

    @property
    def group(self) -> int:
        """Query heads that share one key/value head."""
        return self.heads // self.kv_heads

    @property
    def inner(self) -> int:
        """Inner width of attention: all query heads."""
        return self.heads * self.head_width

    @property
    def kv(self) -> int:
        """Width of keys and of values: all key/value heads."""
        return self.kv_heads * self.head_width


@dataclass(frozen=True)
class Dims:
    """Sizes of a model."""

    width: int
    """d: width of the residual stream, the same in all stacks."""
    stacks: Mapping[str, StackDims]
    """By stack."""

    def size(self, stack: str, axis: str) -> int:
        """Width of an axis in a stack (`gfpet.lm.families.TargetModule.reads` lists the axes)."""
        if axis == "residual":
            return self.width
        of = self.stacks[stack]
        sizes = {"inner": of.inner, "kv": of.kv, "heads": of.heads, "ffn": of.ffn}
        return sizes[axis.removeprefix("cross_")]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Dims:
        """The inverse of `dataclasses.asdict`."""
        return cls(values["width"], {name: StackDims(**sizes) for name, sizes in values["stacks"].items()})
