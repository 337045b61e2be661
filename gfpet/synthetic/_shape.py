"""Sizes of an embedded model, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; an encoder-decoder starts with as many layers in both stacks (`Growth` adds some)."""

    width: int
    layers: int
    heads: int
    ffn: int | None = None
    """Inner width of the feed-forward part; None: four times the width."""


@dataclass(frozen=True)
class Growth:
    """New blocks behind those that are trained, and the steps that fit them in, on the text that comes next.

    A module in a block can only use what the blocks before it have found out. Where the last block is the one that
    looks a fact up, a prefix, which changes no weight, has nothing to read it from (docs/log.md).
    """

    blocks: int
    """How many; at the end of the decoder."""
    steps: int
    rate: float
    """Peak of the learning rate, which starts anew."""


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained: AdamW, linear warm-up, cosine down to a tenth of the rate."""

    steps: int
    batch: int
    """Rows of a batch."""
    length: int = 128
    """Tokens of a row; unused where rows are sentences."""
    rate: float = 2e-3
    embedding_factor: float = 1.0
    """The token embeddings learn that many times faster: where they start large, facts are else hardly kept in them."""
    cuts: int = 1
    """Most words cut out of a row, where rows are sentences. These five are unused where they are not."""
    simple: int = 8_000
    """Documents of which a row is one sentence with one word cut out, whatever `cuts` says."""
    long_from: int | None = None
    """Documents before rows get longer and one word more is cut out of them; None: never. Not where `cuts` is 1."""
    hold: int = 2_300
    """Documents before the world grows."""
    ramp: int = 14_000
    """Documents while it grows."""
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    growth: Growth | None = None
    """What comes after `steps`; families without it: None."""
    seed: int = 0
