"""Sizes and training settings of the embedded models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. An encoder-decoder starts with `layers` layers in each stack (`Growth` adds some)."""

    width: int
    layers: int
    heads: int
    ffn: int | None = None
    """Inner width of the feed-forward layers; None: four times `width`."""


@dataclass(frozen=True)
class Growth:
    """New blocks after the trained ones, and the further training steps with them, on the text that follows.

    A module in a block can use only what earlier blocks computed. If the last block looks the fact up, a prefix, which
    changes no weight, cannot read it (docs/log.md).
    """

    blocks: int
    """Number of new blocks, at the end of the decoder."""
    steps: int
    rate: float
    """Peak learning rate of a new schedule."""


@dataclass(frozen=True)
class Recipe:
    """Training settings of one checkpoint: AdamW, linear warm-up, then cosine decay to a tenth of `rate`."""

    steps: int
    batch: int
    """Rows per batch."""
    length: int = 128
    """Tokens per row; used by causal models only."""
    rate: float = 2e-3
    embedding_factor: float = 1.0
    """Factor on the learning rate of the token embeddings. Embeddings with large initial values otherwise store hardly
    any facts."""
    cuts: int = 1
    """Most words cut out of a row. Span corruption only, like `simple`, `long_from`, `hold` and `ramp`."""
    simple: int = 8_000
    """Number of first documents whose rows are one sentence with one word cut out, whatever `cuts` is."""
    long_from: int | None = None
    """Documents after which rows get longer and lose one word more; None: never. No effect if `cuts` is 1."""
    hold: int = 2_300
    """Documents before entities are added (`gfpet.synthetic.prose.corpus`)."""
    ramp: int = 14_000
    """Documents during which entities are added."""
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    growth: Growth | None = None
    """Growth after `steps`; None: none."""
    seed: int = 0
