"""Section `prune` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfpet import config


@dataclass(frozen=True)
class PruneSettings:
    """How to cut the Bridge out of the large model."""

    importance: Literal["activation", "magnitude", "fisher"]
    reduction: Literal["parameters", "width"]
    """What `factor` divides: the parameter count, or every width."""
    factor: float
    batch_size: int
    """Examples per batch: 1 for `fisher`, by definition."""


def prune_settings(section: config.Prune) -> PruneSettings:
    """From section `prune`."""
    batch_size = 1 if section.importance == "fisher" else section.batch_size
    return PruneSettings(section.importance, section.reduction, section.factor, batch_size)
