"""The cost of a method: maximum memory and total time over *all* stages on its route."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gfpet.method.registry import AUTO, PAPER, STRATEGIES
from gfpet.pipeline import COST_STAGES, FAMILY_STAGES, OF_RESULT, ZERO_SHOT, Phase
from gfpet.report._collect import Phases


@dataclass(frozen=True)
class Route:
    """The stages and phases that produce one result."""

    stages: tuple[str, ...]
    """Its stages; `derive` counts only if the small model was derived."""
    phases: tuple[Phase, ...] = (Phase("infer", tag=OF_RESULT),)
    """Its phases of stage `evaluate` on the evaluation examples; the same phases on held-out examples count too."""
    kind: str = ""
    """Stands for the kind of module in phase names, if not empty."""


METHODS = {
    "chance": Route(()),
    "majority": Route(()),
    "zero_shot": Route(("evaluate",), (Phase("infer", tag=ZERO_SHOT),)),
    "small_tuned": Route(("derive", "tune")),
    "random_w_plug": Route(("derive", "tune", "evaluate"), (Phase("infer", "random", OF_RESULT),)),
    "bridge_alone": Route(("derive", "tune", "align", "prune", "bridge")),
    "gradient": Route(("reference",)),
    "full": Route(("reference",), kind="full"),
}
"""Routes by method. `plugged` has the route of its strategy (`gfpet.method.registry`)."""


@dataclass(frozen=True)
class Cost:
    """Cost of one result."""

    peaks: dict[str, int | None]
    """Peak bytes by stage; None if not measured."""
    seconds: float | None
    """Time of all phases of all stages; None if one was not measured, or there are none."""
    adapt_seconds: float | None
    """The same without scoring the evaluation examples."""

    @property
    def peak(self) -> int | None:
        """The largest peak of the stages; None if one was not measured, since the rest could understate it."""
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
    """The stages on a method's route in a family, in pipeline order.

    Args:
        among: the strategies that `auto` chooses among.
    """
    passed = {stage for route in _routes(method, kind, strategy, among) for stage in route.stages}
    # Stage `derive` measures nothing for a small model that is not derived.
    return tuple(
        stage for stage in COST_STAGES if stage in passed and (stage != "derive" or memory.get((stage, family)))
    )


def _routes(method: str, kind: str, strategy: str, among: Sequence[str]) -> list[Route]:
    """The routes of a result: one, or for `auto` those of all its candidates."""
    if strategy == AUTO:
        applying = [one for one in among if one in STRATEGIES and STRATEGIES[one].applies_to(kind)]
        return [METHODS["zero_shot"], *(_route_of(one, kind) for one in applying)]
    if strategy in STRATEGIES and method == "plugged":
        return [_route_of(strategy, kind)]
    return [METHODS[method] if method in METHODS else _route_of(PAPER, kind)]


def _route_of(name: str, kind: str) -> Route:
    strategy = STRATEGIES[name]
    return Route(strategy.route, strategy.phases, strategy.tag_kind(kind))


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
    """Cost of a method on a task, from its stages' measurements.

    Args:
        memory: phases by (stage, family, task), or (stage, family) for the stages that a family shares.
        among: the strategies that `auto` chooses among; its cost includes all of them.
    """
    peaks: dict[str, int | None] = {}
    seconds: list[float | None] = []
    scoring: list[float] = []
    routes = _routes(method, kind, strategy, among)
    for stage in route_of(memory, family, method, kind, strategy, among):
        key = (stage, family) if stage in FAMILY_STAGES else (stage, family, task)
        passed = dict(_passed(memory.get(key, {}), stage, routes, kind, seed))
        phases = passed.values()
        sizes = [bytes_of(phase) for phase in phases]
        known = [size for size in sizes if size is not None]
        peaks[stage] = max(known) if known and len(known) == len(sizes) else None
        seconds += [phase.get("seconds") for phase in phases] or [None]
        scoring += [phase.get("seconds") or 0.0 for name, phase in passed.items() if Phase.parse(name).is_scoring]
    times = [time for time in seconds if time is not None]
    whole = math.fsum(times) if times and len(times) == len(seconds) else None
    return Cost(peaks, whole, None if whole is None else whole - math.fsum(scoring))


def bytes_of(phase: Mapping[str, Any]) -> int | None:
    """Peak bytes of one phase: CUDA allocations if measured, else live CPU tensors."""
    for name in ("cuda_allocated_peak_bytes", "cpu_live_peak_bytes"):
        size = phase.get(name)
        if size is not None:
            return int(size)
    return None


def _passed(
    phases: Phases, stage: str, routes: Sequence[Route], kind: str, seed: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The phases of a stage on a result's route: its own, and those without a tag, which all results share."""
    for name, measured in phases.items():
        phase = Phase.parse(name)
        if any(_is_own(phase, stage, route, route.kind or kind, seed) for route in routes if stage in route.stages):
            yield name, measured


def _is_own(phase: Phase, stage: str, route: Route, kind: str, seed: int | None) -> bool:
    if stage == "evaluate":
        return phase.scoring in [each.filled(kind, seed) for each in route.phases]
    return stage in FAMILY_STAGES or not phase.tag or phase.tag == OF_RESULT.format(kind=kind, seed=seed)
