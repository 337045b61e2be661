"""The observer of a stage's work: the stage itself (metrics, checkpoints), or the memory estimate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gfpet.lm.training._loop import Hooks
from gfpet.memory import Measure, Meter

MakeHooks = Callable[[str, Meter], Hooks]
"""Makes the hooks of a training run from its name (`lora-seed0`) and the meter of its phase."""


@dataclass(frozen=True)
class Observer:
    """How a caller measures the phases of a stage's work and watches its training runs."""

    measure: Measure
    hooks: MakeHooks
