"""How the estimate observes the work of a stage: every phase is measured, and its reading kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from gfpet.lm.training import Hooks, Observer, Settings
from gfpet.memory import MemoryReading, Meter, Resident, measure


class Recorder:
    """Stands where a stage has its harness."""

    def __init__(self, by_module: bool = False) -> None:
        """With `by_module`, what is alive at a peak is told apart by the parts of the phase's first resident model."""
        self._by_module = by_module
        self.readings: dict[str, MemoryReading] = {}
        """By phase."""

    @contextmanager
    def measure(self, phase: str, resident: Iterable[Resident] = ()) -> Iterator[Meter]:
        """Measure a phase and keep its reading."""
        held = list(resident)
        modules = next((item for item in held if isinstance(item, nn.Module)), None) if self._by_module else None
        measuring = measure(phase, held, modules=modules)
        del held, resident, modules  # this frame lasts as long as the phase, and would keep them alive
        with measuring as meter:
            yield meter
        self.readings[phase] = meter.reading

    @property
    def observer(self) -> Observer:
        """For work that trains: no checkpoint, no progress bar."""
        return Observer(self.measure, lambda _, meter: Hooks(step=meter.step, quiet=True))

    @property
    def highest(self) -> MemoryReading:
        """The reading of the phase with the highest peak."""
        return max(self.readings.values(), key=lambda reading: reading.cpu_live_peak_bytes or 0)


def two_steps(loop: Settings) -> Settings:
    """The loop for two batches of examples: the second step has the optimizer's state from the first."""
    return replace(loop, epochs=1, accumulation=1)
