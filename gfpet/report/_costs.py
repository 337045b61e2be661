"""What a method costs: the maximum of memory and the sum of time over *all* stages that it goes through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gfpet.report._collect import FAMILY_STAGES, Phases

ROUTES: dict[str, tuple[str, ...]] = {
    "chance": (),
    "majority": (),
    "zero_shot": ("evaluate",),
    "small_tuned": ("derive", "tune"),
    "random_w_plug": ("derive", "tune", "evaluate"),
    "bridge_alone": ("derive", "tune", "align", "prune", "bridge"),
    "plugged": ("derive", "tune", "align", "prune", "bridge", "evaluate"),
    "gradient": ("reference",),
    "full": ("reference",),
}
"""Stages that each method goes through; `derive` only where the small model was derived."""

_INFERENCE = {"zero_shot": "infer/zero-shot", "random_w_plug": "infer-random/{tag}"}
"""Phases of stage `evaluate`, where each method has its own; all others have `infer/{tag}`."""


@dataclass(frozen=True)
class Cost:
    """Cost of one result."""

    peaks: dict[str, int | None]
    """Bytes, by stage; None where it was not measured."""
    seconds: float | None
    """Time of all phases of all its stages; None if one of them was not measured, or there are none."""

    @property
    def peak(self) -> int | None:
        """The largest of the stages' peaks. None if one of them was not measured: the rest would flatter it."""
        known = [peak for peak in self.peaks.values() if peak is not None]
        return max(known) if known and len(known) == len(self.peaks) else None


def route_of(memory: Mapping[tuple[str, ...], Phases], family: str, method: str) -> tuple[str, ...]:
    """The stages that a method goes through in a family."""
    route = ROUTES.get(method, ROUTES["plugged"])
    # A small model that was there already has nothing measured in stage `derive`.
    return route if memory.get(("derive", family)) else tuple(stage for stage in route if stage != "derive")


def cost_of(
    memory: Mapping[tuple[str, ...], Phases],
    *,
    family: str,
    task: str,
    method: str,
    kind: str = "",
    seed: int | None = None,
) -> Cost:
    """Cost of a method on a task, from what its stages measured.

    Args:
        memory: phases by (stage, family, task), or (stage, family) for the stages that a family shares.
    """
    peaks: dict[str, int | None] = {}
    seconds: list[float | None] = []
    for stage in route_of(memory, family, method):
        key = (stage, family) if stage in FAMILY_STAGES else (stage, family, task)
        phases = list(_passed(memory.get(key, {}), stage, method, kind, seed))
        sizes = [bytes_of(phase) for phase in phases]
        known = [size for size in sizes if size is not None]
        peaks[stage] = max(known) if known and len(known) == len(sizes) else None
        seconds += [phase.get("seconds") for phase in phases] or [None]
    times = [time for time in seconds if time is not None]
    return Cost(peaks, math.fsum(times) if times and len(times) == len(seconds) else None)


def bytes_of(phase: Mapping[str, Any]) -> int | None:
    """Peak of one phase: allocated by CUDA if that was measured, else live tensors of the CPU."""
    for name in ("cuda_allocated_peak_bytes", "cpu_live_peak_bytes"):
        size = phase.get(name)
        if size is not None:
            return int(size)
    return None


def _passed(phases: Phases, stage: str, method: str, kind: str, seed: int | None) -> Iterator[dict[str, Any]]:
    """The phases of a stage that a result went through: its own, and those that are nobody's, which have no `/`."""
    tag = f"{'full' if method == 'full' else kind}-seed{seed}"
    for name, phase in phases.items():
        if stage == "evaluate":
            own = name == _INFERENCE.get(method, "infer/{tag}").format(tag=tag)
        else:
            own = stage in FAMILY_STAGES or "/" not in name or name.endswith(f"/{tag}")
        if own:
            yield phase
