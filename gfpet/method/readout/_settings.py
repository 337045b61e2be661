"""Section `readout` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gfpet import config
from gfpet.lm.training import Settings, loop_settings


@dataclass(frozen=True)
class ReadoutSettings:
    """The layers that a readout reads, its shape, and its training."""

    loop: Settings
    learning_rate: float
    layers_read: int
    """Number of layers read per stack."""
    bottleneck: int
    heads: int
    head_width: int
    dtype: torch.dtype
    """Data type of the cached activations."""
    budget: int
    """Bytes on disk for the activations."""


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
