"""Finds settings that make every stage fit in a memory budget, and names their costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gfpet.config import Params
from gfpet.errors import ModelError
from gfpet.estimate._ours import OF_KIND, SHARED, kind_stages, shared_stages
from gfpet.estimate._run import STAGES
from gfpet.estimate._workload import Shape, Workload
from gfpet.memory import MemoryReading


@dataclass(frozen=True)
class Fit:
    """Whether and how one stage fits in the budget."""

    stage: str
    before: int
    """Peak with the current settings, in bytes."""
    after: int
    """Peak with `changes`, in bytes; may still exceed the budget."""
    fits: bool
    changes: dict[str, Any]
    """Keys of params.yaml and their new values; several stages may share them."""
    cost: tuple[str, ...]
    """What each change costs."""


@dataclass(frozen=True)
class _Remedy:
    """A change of settings, tried if the earlier ones do not suffice."""

    stages: frozenset[str]
    changes: Callable[[Params, str], dict[str, Any]]
    """Takes the parameters and the family; gives an empty dictionary if nothing would change."""
    cost: str


def _checkpoint(section: str) -> Callable[[Params, str], dict[str, Any]]:
    key = f"{section}.gradient_checkpointing"
    return lambda params, _: {} if getattr(params, section).gradient_checkpointing is True else {key: True}


def _less(key: str, factor: int, least: float | int) -> Callable[[Params, str], dict[str, Any]]:
    section, name = key.split(".")

    def changes(params: Params, _: str) -> dict[str, Any]:
        now = getattr(getattr(params, section), name)
        new = max(least, type(now)(now / factor))
        return {} if new >= now else {key: new}

    return changes


def _smaller_batch(section: str) -> Callable[[Params, str], dict[str, Any]]:
    def changes(params: Params, _: str) -> dict[str, Any]:
        now = getattr(params, section)
        if now.batch_size == 1:
            return {}
        return {
            f"{section}.batch_size": now.batch_size // 2,
            f"{section}.accumulation": now.accumulation * now.batch_size // (now.batch_size // 2),
        }

    return changes


def _half_weights(params: Params, family: str) -> dict[str, Any]:
    return (
        {} if getattr(params.models, family).large.dtype != "float32" else {f"models.{family}.large.dtype": "bfloat16"}
    )


def _set(key: str, value: Any) -> Callable[[Params, str], dict[str, Any]]:
    section, *rest = key.split(".")

    def changes(params: Params, _: str) -> dict[str, Any]:
        now: Any = getattr(params, section)
        for name in rest:
            now = getattr(now, name)
        return {} if now == value else {key: value}

    return changes


def _factor(params: Params, _: str) -> dict[str, Any]:
    return {"prune.factor": params.prune.factor * 2} if params.prune.factor < 64 else {}


def _eight_bits(params: Params, family: str) -> dict[str, Any]:
    large = getattr(params.models, family).large
    if large.quantisation != "none" or large.device_map != "single" or params.prune.importance == "fisher":
        return {}
    changes: dict[str, Any] = {f"models.{family}.large.quantisation": "int8"}
    # Gradients cannot tune quantised weights, but they can tune modules beside them.
    if "full" in params.reference.methods:
        changes["reference.methods"] = [method for method in params.reference.methods if method != "full"]
    return changes


def _stream(budget: int, share: float) -> Callable[[Params, str], dict[str, Any]]:
    def changes(params: Params, family: str) -> dict[str, Any]:
        large, memory = getattr(params.models, family).large, float(f"{share * budget / 1e9:.3g}")
        smaller = large.memory_gb is None or memory < large.memory_gb
        if params.prune.importance == "fisher" or not smaller:
            return {}
        section = f"models.{family}.large"
        # Gradients cannot tune an offloaded L.
        changes = {f"{section}.device_map": "auto", f"{section}.memory_gb": memory, "reference.methods": []}
        # Quantised weights cannot be offloaded.
        return changes if large.quantisation == "none" else changes | {f"{section}.quantisation": "none"}

    return changes


_WITH_L = frozenset({"align", "prune", "cache", "readout", "infer"})
_ROUNDED = "L's linear maps are rounded to 8 bits, and no full fine-tuning of L to compare with"
_REREAD = "every forward pass of L reads blocks from disk; no L by gradients to compare with"
_REMEDIES = (
    _Remedy(frozenset({"tune S"}), _checkpoint("tune"), "about a third more time to tune S"),
    _Remedy(frozenset({"bridge"}), _checkpoint("bridge"), "about a third more time to train the Bridge"),
    _Remedy(_WITH_L, _half_weights, "none in time; L's activations in 8 bits of mantissa"),
    _Remedy(frozenset({"bridge", "cache"}), _set("bridge.activations.store", "projected"), "none in time"),
    _Remedy(frozenset({"readout"}), _smaller_batch("readout"), "some more time to train the readout"),
    _Remedy(frozenset({"align"}), _less("align.batch_size", 4, 1), "more, smaller forward passes"),
    _Remedy(frozenset({"align"}), _less("align.budget_gb", 4, 0.05), "the text is read up to 4 times as often"),
    _Remedy(frozenset({"prune"}), _less("prune.batch_size", 4, 1), "more, smaller forward passes"),
    _Remedy(frozenset({"infer"}), _less("evaluate.batch_size", 4, 1), "more, smaller forward passes"),
    _Remedy(frozenset({"cache"}), _smaller_batch("bridge"), "more, smaller forward passes"),
    _Remedy(frozenset({"bridge"}), _set("plug.update", "low_rank"), "none in time; W_plug can move less"),
    _Remedy(frozenset({"bridge"}), _set("bridge.w_down", "selection"), "none in time; W_down stays a selection"),
    _Remedy(frozenset({"tune S"}), _smaller_batch("tune"), "smaller batches, more of them: less well used hardware"),
    _Remedy(frozenset({"bridge"}), _smaller_batch("bridge"), "smaller batches, more of them: less well used hardware"),
    _Remedy(frozenset({"bridge"}), _factor, "none in time; a smaller Bridge is a worse stand-in for L"),
    _Remedy(frozenset({"bridge"}), _smaller_batch("bridge"), "smaller batches, more of them: less well used hardware"),
)


WithChanges = Callable[[Params, dict[str, Any]], Params]
"""Replaces the values of some dotted keys of the parameters; `gfpet.config._file.with_values`."""


def plan_within(
    budget: int, small: Shape, large: Shape, work: Workload, params: Params, with_changes: WithChanges, *, kind: str
) -> tuple[list[Fit], dict[str, Any]]:
    """Fit each of our stages in a budget of bytes.

    Returns one `Fit` per stage, and all changes together: dotted keys and their new values. Each change is tried by
    running the stages again under fake tensors, and kept only if it lowers the peak of a stage over the budget.

    Args:
        with_changes: replaces the values of some dotted keys of the parameters.
        kind: kind of module.
    """
    before = _sizes(set(STAGES), small, large, work, params, kind)
    now = dict(before)
    kept: list[tuple[set[str], dict[str, Any], str]] = []
    of_large = [_Remedy(_WITH_L, _eight_bits, _ROUNDED)]
    of_large += [_Remedy(_WITH_L, _stream(budget, share), _REREAD) for share in (0.5, 0.25)]
    for remedy in (*_REMEDIES, *of_large):
        needed = {stage for stage in remedy.stages if now.get(stage, 0) > budget}
        changes = remedy.changes(params, large.family) if needed else {}
        if not changes:
            continue
        changed = with_changes(params, changes)
        try:
            sizes = _sizes(set(remedy.stages), small, large, work, changed, kind)
        except ModelError:
            continue  # L's embeddings alone exceed the device's memory, or a library is missing
        if not any(sizes[stage] < now[stage] for stage in needed):
            continue
        params = changed
        kept.append((needed | {stage for stage in sizes if sizes[stage] != now.get(stage)}, changes, remedy.cost))
        now |= sizes
    final: dict[str, Any] = {}
    for _, changes, _ in kept:
        final |= changes
    fits = []
    for stage in (stage for stage in STAGES if stage in before):
        # Drop a change that a later one has overridden completely: it costs nothing.
        of_stage = [
            (changes, cost)
            for stages, changes, cost in kept
            if stage in stages and any(final[key] == value for key, value in changes.items())
        ]
        keys = {key: final[key] for changes, _ in of_stage for key in changes}
        costs = tuple(dict.fromkeys(cost for _, cost in of_stage))
        fits.append(Fit(stage, before[stage], now[stage], now[stage] <= budget, keys, costs))
    return fits, final


def _sizes(stages: set[str], small: Shape, large: Shape, work: Workload, params: Params, kind: str) -> dict[str, int]:
    found: dict[str, MemoryReading] = {}
    if stages & {*SHARED}:
        found |= shared_stages(small, large, work, params, only=stages)
    if stages & {*OF_KIND}:
        found |= kind_stages(kind, small, large, work, params, only=stages)
    return {stage: reading.cpu_live_peak_bytes or 0 for stage, reading in found.items() if stage in stages}
