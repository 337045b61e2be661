"""What a model reads: padded token rows for each of its stacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """Token rows of one stack, padded on the right."""

    ids: Int[Tensor, "rows length"]
    lengths: tuple[int, ...]

    @property
    def is_real(self) -> Bool[Tensor, "rows length"]:
        """False where a row is padding."""
        positions = torch.arange(self.ids.shape[1], device=self.ids.device)
        return positions[None] < torch.tensor(self.lengths, device=positions.device)[:, None]

    def to(self, device: torch.device) -> Padded:
        """The same rows on another device."""
        return Padded(self.ids.to(device), self.lengths)


Texts = Mapping[str, Padded]
"""By the stack's name; row i of every stack belongs to the same example."""


@dataclass(frozen=True)
class Template:
    """How an encoder-decoder reads an example: `context source_end` in the encoder, `start candidate` then."""

    source_end: tuple[int, ...]
    start: tuple[int, ...]
    """At least one token."""
