"""Time and memory of a phase: `with measure("train", resident=[model, optimizer]) as meter:`, then `meter.reading`."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import psutil
import torch

from gfpet.errors import GfpetError
from gfpet.memory._labels import Category, Label, Resident
from gfpet.memory._live import LiveStorages

_RSS_INTERVAL = 0.02
"""Seconds between two samples of the resident set."""


@dataclass(frozen=True)
class MemoryReading:
    """Time and memory of one phase. A quantity that its device lacks is None."""

    phase: str
    seconds: float
    """Wall-clock time."""
    cpu_live_peak_bytes: int | None
    """Peak bytes of live tensor storages; None if nothing was traced (on CUDA, or without steps)."""
    rss_peak_bytes: int
    """Largest resident set of the whole process, libraries included, sampled every 20 ms and at both ends: a lower
    bound of the true peak. (`ru_maxrss` is the peak since the process began, not of a phase.)"""
    cuda_allocated_peak_bytes: int | None
    cuda_reserved_peak_bytes: int | None
    tracked_steps: int = 0
    """Number of steps traced for the live peak."""
    steps: int = 0
    cpu_live_split: Mapping[Category, int] | None = None
    """The live peak's bytes by category; they add up to the peak."""
    cpu_live_parts: Mapping[Label, int] | None = None
    """The live peak's bytes by category and module; None unless `measure` got `modules`."""

    def as_dict(self) -> dict[str, int | float]:
        """The numbers by name, as in the metrics of the phase, without those that are None.

        The split comes as `cpu_live_peak_<category>_bytes`.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["phase"], values["cpu_live_split"], values["cpu_live_parts"]
        values |= {f"cpu_live_peak_{name}_bytes": size for name, size in (self.cpu_live_split or {}).items()}
        return {name: value for name, value in values.items() if value is not None}


class Meter:
    """Handle of a phase that `measure` is measuring."""

    def __init__(self, phase: str, resident: Iterable[Resident], live: LiveStorages | None) -> None:
        self._phase = phase
        self._residents: list[weakref.ref[Resident]] = []
        self._live = live
        self._traced: list[tuple[int, int]] = []
        self._steps = 0
        self._tracked = 0
        self._reading: MemoryReading | None = None
        self.hold(*resident)

    @property
    def reading(self) -> MemoryReading:
        """The result, available after the phase.

        Raises:
            GfpetError: the phase is still running.
        """
        if self._reading is None:
            raise GfpetError(f"phase '{self._phase}' is still running; read meter.reading after its `with` block.")
        return self._reading

    def hold(self, *resident: Resident) -> None:
        """Add residents made after the phase began, e.g. its optimizer. Keeps none of them alive."""
        self._residents.extend(weakref.ref(item) for item in resident)

    @contextmanager
    def step(self, size: int = 0) -> Iterator[None]:
        """One step of the phase's loop, traced if it can set a new peak.

        Tracing slows tiny models down several times, and steps repeat. A step cannot set a new peak if an earlier
        traced step was at least as large and began with at least as many live bytes (the first step creates the
        optimizer's state). The first two steps are always traced; code outside of steps never is. A phase without a
        loop is one step.

        Args:
            size: the quantity that memory grows with, e.g. the padded tokens of the batch.
        """
        self._steps += 1
        if self._live is None:
            yield
            return
        alive = self._alive()
        self._live.register(alive)
        held = self._live.live()
        if len(self._traced) >= 2 and any(size <= other and held <= more for other, more in self._traced):
            del alive
            yield
            return
        self._traced.append((size, held))
        self._tracked += 1
        self._live.enter(alive)
        del alive
        try:
            yield
        finally:
            self._live.leave()

    def _alive(self) -> list[Resident]:
        items = (ref() for ref in self._residents)
        return [item for item in items if item is not None]


Step = Callable[[int], AbstractContextManager[None]]
"""Opened around each batch with its padded size: a meter's `step`, or `no_step` if nothing is measured."""


def no_step(_: int) -> AbstractContextManager[None]:
    """Measures nothing."""
    return nullcontext()


@runtime_checkable
class Measure(Protocol):
    """Type of `measure` below, of a stage's `run.measure`, and of the estimate's recorder."""

    def __call__(self, phase: str, resident: Iterable[Resident] = ()) -> AbstractContextManager[Meter]:
        """Measure a phase.

        Args:
            phase: its name in the metrics, e.g. `train/lora-seed0`.
            resident: what is already in memory.
        """


@contextmanager
def measure(
    phase: str,
    resident: Iterable[Resident] = (),
    device: torch.device | None = None,
    modules: torch.nn.Module | None = None,
) -> Iterator[Meter]:
    """Measure time and memory of the block, on this thread.

    On CPU it traces the operators inside `meter.step(size)` for the exact peak of live tensor bytes, in those steps
    that can set a new one; a phase without steps has no such peak. On CUDA it resets and reads the allocator's own
    peaks, and traces nothing.

    Args:
        phase: its name in the metrics, e.g. `train/lora-seed0`.
        resident: what is already in memory (modules, tensors, optimizers); counted from the start, not kept alive.
            Other earlier tensors count as soon as an operator touches them.
        modules: a model whose submodules `cpu_live_parts` names; slower.
        device: where the phase runs. None means the current CUDA device if this process has used CUDA, else CPU.

    Yields:
        A `Meter`; its `reading` is available after the block, also if the block raised.
    """
    cuda = _cuda_device(device)
    meter = Meter(phase, resident, LiveStorages(modules) if cuda is None else None)
    del resident  # this frame lives as long as the phase, and would keep it alive
    if cuda is not None:
        torch.cuda.synchronize(cuda)
        torch.cuda.reset_peak_memory_stats(cuda)
    rss = _RssSampler()
    begin = time.perf_counter()
    rss.start()
    try:
        yield meter
    finally:
        if cuda is not None:
            torch.cuda.synchronize(cuda)
        seconds = time.perf_counter() - begin
        rss_peak = rss.stop()
        meter._reading = MemoryReading(
            phase=phase,
            seconds=seconds,
            cpu_live_peak_bytes=meter._live.peak("cpu") if meter._live is not None and meter._tracked else None,
            rss_peak_bytes=rss_peak,
            cuda_allocated_peak_bytes=None if cuda is None else torch.cuda.max_memory_allocated(cuda),
            cuda_reserved_peak_bytes=None if cuda is None else torch.cuda.max_memory_reserved(cuda),
            tracked_steps=meter._tracked,
            steps=meter._steps,
            cpu_live_split=meter._live.peak_split("cpu") if meter._live is not None and meter._tracked else None,
            cpu_live_parts=meter._live.peak_parts("cpu") if meter._live is not None and modules is not None else None,
        )


def _cuda_device(device: torch.device | None) -> torch.device | None:
    if device is None and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return torch.device("cuda", torch.cuda.current_device())
    return device if device is not None and device.type == "cuda" else None


class _RssSampler:
    """Largest resident set of this process between `start` and `stop`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gfpet-rss", daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        self._look()
        return self._peak

    def _look(self) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)

    def _run(self) -> None:
        while not self._over.wait(_RSS_INTERVAL):
            self._look()
