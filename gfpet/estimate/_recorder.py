"""Observes a stage's work for an estimate: measures every phase and keeps its reading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from gfpet.lm.training import Hooks, Observer, Settings
from gfpet.memory import MemoryReading, Meter, Resident, measure


class Recorder:
    """Takes the place of a stage's harness."""

    def __init__(self, by_module: bool = False) -> None:
        """With `by_module`, readings split the peak by the parts of the phase's first resident model."""
        self._by_module = by_module
        self.readings: dict[str, MemoryReading] = {}
        """By phase."""

    @contextmanager
    def measure(self, phase: str, resident: Iterable[Resident] = ()) -> Iterator[Meter]:
        """Measure a phase and keep its reading."""
        held = list(resident)
        modules = next((item for item in held if isinstance(item, nn.Module)), None) if self._by_module else None
        measuring = measure(phase, held, modules=modules)
        del held, resident, modules  # this frame lives as long as the phase, and would keep them alive
        with measuring as meter:
            yield meter
        self.readings[phase] = meter.reading

    @property
    def observer(self) -> Observer:
        """An observer for training, without checkpoints or progress bar."""
        return Observer(self.measure, lambda _, meter: Hooks(step=meter.step, quiet=True))

    @property
    def highest(self) -> MemoryReading:
        """The reading of the phase with the highest peak."""
        return max(self.readings.values(), key=lambda reading: reading.cpu_live_peak_bytes or 0)


def two_steps(loop: Settings) -> Settings:
    """Loop settings for two steps on two batches; the second step has the optimizer's state from the first."""
    return replace(loop, epochs=1, accumulation=1)
