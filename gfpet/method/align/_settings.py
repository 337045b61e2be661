"""Section `align` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfpet import config


@dataclass(frozen=True)
class AlignSettings:
    """How `W_plug` is fitted."""

    method: Literal["ridge", "procrustes", "identity"]
    ridge: float
    """Penalty of the method `ridge`, as a fraction of the inputs' mean variance."""
    centre: bool
    """Whether maps have offsets; never with the method `identity`."""
    batch_size: int
    budget: int
    """Bytes for the sums and maps of one pass over the text."""


def align_settings(section: config.Align) -> AlignSettings:
    """From section `align`."""
    return AlignSettings(
        method=section.method,
        ridge=section.ridge,
        centre=section.centre and section.method != "identity",
        batch_size=section.batch_size,
        budget=int(section.budget_gb * 1e9),
    )
