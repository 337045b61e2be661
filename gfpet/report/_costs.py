"""What a method costs: the maximum of memory and the sum of time over *all* stages that it goes through."""

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
    """How one result comes about."""

    stages: tuple[str, ...]
    """The stages that it goes through; `derive` counts only if the small model was derived."""
    phases: tuple[Phase, ...] = (Phase("infer", tag=OF_RESULT),)
    """Its phases of stage `evaluate` on the evaluation examples; the same on examples to choose by count, too."""
    kind: str = ""
    """What its phases have in the place of the kind of module, if not the kind."""


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
"""By method; `plugged` has the route of its strategy (`gfpet.method.registry`)."""


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
    passed = {stage for route in _routes(method, kind, strategy, among) for stage in route.stages}
    # A small model that was there already has nothing measured in stage `derive`.
    return tuple(
        stage for stage in COST_STAGES if stage in passed and (stage != "derive" or memory.get((stage, family)))
    )


def _routes(method: str, kind: str, strategy: str, among: Sequence[str]) -> list[Route]:
    """All that a result came of: one route, or for `auto` those of everything it chose among."""
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
    """Cost of a method on a task, from what its stages measured.

    Args:
        memory: phases by (stage, family, task), or (stage, family) for the stages that a family shares.
        among: the strategies that `auto` chooses among, whose cost is that of all of them.
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
    """Peak of one phase: allocated by CUDA if that was measured, else live tensors of the CPU."""
    for name in ("cuda_allocated_peak_bytes", "cpu_live_peak_bytes"):
        size = phase.get(name)
        if size is not None:
            return int(size)
    return None


def _passed(
    phases: Phases, stage: str, routes: Sequence[Route], kind: str, seed: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The phases of a stage that a result went through: its own, and those without a tag, which all results share."""
    for name, measured in phases.items():
        phase = Phase.parse(name)
        if any(_is_own(phase, stage, route, route.kind or kind, seed) for route in routes if stage in route.stages):
            yield name, measured


def _is_own(phase: Phase, stage: str, route: Route, kind: str, seed: int | None) -> bool:
    if stage == "evaluate":
        return phase.scoring in [each.filled(kind, seed) for each in route.phases]
    return stage in FAMILY_STAGES or not phase.tag or phase.tag == OF_RESULT.format(kind=kind, seed=seed)
