"""A model's input: padded token rows for each stack."""

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
        """False at padding."""
        positions = torch.arange(self.ids.shape[1], device=self.ids.device)
        return positions[None] < torch.tensor(self.lengths, device=positions.device)[:, None]

    def to(self, device: torch.device) -> Padded:
        """The same rows on another device."""
        return Padded(self.ids.to(device), self.lengths)


Texts = Mapping[str, Padded]
"""By stack; row i of every stack belongs to the same example."""


@dataclass(frozen=True)
class Template:
    """Template of an encoder-decoder: the encoder reads `context source_end`, the decoder `start candidate`."""

    source_end: tuple[int, ...]
    start: tuple[int, ...]
    """At least one token."""
