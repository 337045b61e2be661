"""Section `readout` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gfpet import config
from gfpet.lm.training import Settings, loop_settings


@dataclass(frozen=True)
class ReadoutSettings:
    """What a readout reads of the large model, its shape, and how it is trained."""

    loop: Settings
    learning_rate: float
    layers_read: int
    """Points of a stack whose residual stream is read."""
    bottleneck: int
    heads: int
    head_width: int
    dtype: torch.dtype
    """Of the cached activations."""
    budget: int
    """Bytes on disk that the activations may take."""


def readout_settings(section: config.Readout) -> ReadoutSettings:
    """From section `readout`."""
    return ReadoutSettings(
        loop=loop_settings(section),
        learning_rate=section.learning_rate,
        layers_read=section.layers_read,
        bottleneck=section.bottleneck,
        heads=section.heads,
        head_width=section.head_width,
        dtype=getattr(torch, section.dtype),
        budget=int(section.budget_gb * 1e9),
    )
