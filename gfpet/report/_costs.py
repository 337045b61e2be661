"""What a method costs: the maximum of memory and the sum of time over *all* stages that it goes through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfpet.lm.registry import KINDS
from gfpet.report._collect import FAMILY_STAGES, STAGES, Phases

ROUTES: dict[str, tuple[str, ...]] = {
    "chance": (),
    "majority": (),
    "zero_shot": ("evaluate",),
    "small_tuned": ("derive", "tune"),
    "random_w_plug": ("derive", "tune", "evaluate"),
    "bridge_alone": ("derive", "tune", "align", "prune", "bridge"),
    "plugged": ("derive", "tune", "align", "prune", "bridge", "evaluate"),
    "proxy_tuning": ("derive", "tune", "evaluate"),
    "readout": ("readout", "evaluate"),
    "gradient": ("reference",),
    "full": ("reference",),
}
"""Stages that each method goes through, or a strategy of `plugged` whose way is another than the paper's; `derive` only
where the small model was derived. `auto` goes through those of all strategies that it chooses among."""

_ZERO, _SMALL = "infer/zero-shot", ("infer-small/zero-shot", "infer-small/{tag}")
_INFERENCE = {
    "zero_shot": (_ZERO,),
    "random_w_plug": ("infer-random/{tag}",),
    "scaling": ("infer/{tag}", "infer-scaling/{tag}"),
    "blockwise_scaling": ("infer-blockwise_scaling/{tag}",),
    "proxy_tuning": (_ZERO, *_SMALL),
    "readout": ("infer/readout-seed{seed}",),
}
"""Phases of stage `evaluate`, where each method or strategy has its own; all others have `infer/{tag}`. Beside each
of them stands one on held-out examples, with `choose` for `infer`."""


@dataclass(frozen=True)
class Cost:
    """Cost of one result."""

    peaks: dict[str, int | None]
    """Bytes, by stage; None where it was not measured."""
    seconds: float | None
    """Time of all phases of all its stages; None if one of them was not measured, or there are none."""
    adapt_seconds: float | None
    """The same without what it took to score the evaluation examples."""

    @property
    def peak(self) -> int | None:
        """The largest of the stages' peaks. None if one of them was not measured: the rest would flatter it."""
        known = [peak for peak in self.peaks.values() if peak is not None]
        return max(known) if known and len(known) == len(self.peaks) else None


def route_of(
    memory: Mapping[tuple[str, ...], Phases],
    family: str,
    method: str,
    kind: str = "",
    strategy: str = "",
    among: Sequence[str] = (),
) -> tuple[str, ...]:
    """The stages that a method goes through in a family, in the order of the pipeline.

    Args:
        among: the strategies that `auto` chooses among.
    """
    tried = _tried(method, kind, strategy, among)
    passed = {stage for one in tried for stage in ROUTES.get(one, ROUTES["plugged"])}
    # A small model that was there already has nothing measured in stage `derive`.
    return tuple(stage for stage in STAGES if stage in passed and (stage != "derive" or memory.get((stage, family))))


def _tried(method: str, kind: str, strategy: str, among: Sequence[str]) -> tuple[str, ...]:
    """The methods and strategies, as the tables above name them, that a result came of."""
    if strategy == "auto":
        return "zero_shot", *(one for one in among if _has(kind, one))
    return (strategy if strategy in ROUTES or strategy in _INFERENCE else method,)


def _has(kind: str, strategy: str) -> bool:
    """Whether a kind of module has a strategy. Without a kind there is the readout alone."""
    if not kind:
        return strategy == "readout"
    return KINDS[kind].scalable or strategy not in ("scaling", "blockwise_scaling")


def cost_of(
    memory: Mapping[tuple[str, ...], Phases],
    *,
    family: str,
    task: str,
    method: str,
    kind: str = "",
    strategy: str = "",
    seed: int | None = None,
    among: Sequence[str] = (),
) -> Cost:
    """Cost of a method on a task, from what its stages measured.

    Args:
        memory: phases by (stage, family, task), or (stage, family) for the stages that a family shares.
        among: the strategies that `auto` chooses among, whose cost is that of all of them.
    """
    peaks: dict[str, int | None] = {}
    seconds: list[float | None] = []
    scoring: list[float] = []
    tried = _tried(method, kind, strategy, among)
    for stage in route_of(memory, family, method, kind, strategy, among):
        key = (stage, family) if stage in FAMILY_STAGES else (stage, family, task)
        passed = dict(_passed(memory.get(key, {}), stage, tried, kind, seed))
        phases = passed.values()
        sizes = [bytes_of(phase) for phase in phases]
        known = [size for size in sizes if size is not None]
        peaks[stage] = max(known) if known and len(known) == len(sizes) else None
        seconds += [phase.get("seconds") for phase in phases] or [None]
        scoring += [phase.get("seconds") or 0.0 for name, phase in passed.items() if name.startswith("infer")]
    times = [time for time in seconds if time is not None]
    whole = math.fsum(times) if times and len(times) == len(seconds) else None
    return Cost(peaks, whole, None if whole is None else whole - math.fsum(scoring))


def bytes_of(phase: Mapping[str, Any]) -> int | None:
    """Peak of one phase: allocated by CUDA if that was measured, else live tensors of the CPU."""
    for name in ("cuda_allocated_peak_bytes", "cpu_live_peak_bytes"):
        size = phase.get(name)
        if size is not None:
            return int(size)
    return None


def _passed(
    phases: Phases, stage: str, tried: Sequence[str], kind: str, seed: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The phases of a stage that a result went through: its own, and those that are nobody's, which have no `/`."""
    tag = f"{'full' if 'full' in tried else 'readout' if stage == 'readout' else kind}-seed{seed}"
    names = (name for one in tried for name in _INFERENCE.get(one, ("infer/{tag}",)))
    own_inference = {name.format(tag=tag, seed=seed) for name in names}
    for name, phase in phases.items():
        if stage == "evaluate":
            own = name.replace("choose", "infer", 1) in own_inference
        else:
            own = stage in FAMILY_STAGES or "/" not in name or name.endswith(f"/{tag}")
        if own:
            yield name, phase
