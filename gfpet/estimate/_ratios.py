"""Ratios of reference methods' peaks to a method's peak; every table uses the same references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.estimate._run import Estimate
from gfpet.lm.registry import KIND_NAMES


def ratios(found: Sequence[Estimate], one: Estimate) -> dict[str, float | None]:
    """`ratio_to_full`, `ratio_to_best_peft` (the lowest peak of all kinds of module without checkpointing) and
    `ratio_to_lora_checkpointed`: the reference's peak divided by this method's; None without the reference."""
    plain = {each.method: each.peak for each in found if not each.checkpointed and not each.kind}
    again = {each.method: each.peak for each in found if each.checkpointed}
    peft = [plain[name] for name in KIND_NAMES if name in plain]
    against = {
        "ratio_to_full": plain.get("full"),
        "ratio_to_best_peft": min(peft) if peft else None,
        "ratio_to_lora_checkpointed": again.get("lora"),
    }
    return {name: None if peak is None else peak / one.peak for name, peak in against.items()}


def as_records(found: Sequence[Estimate]) -> list[dict[str, Any]]:
    """One dictionary per method, as printed by `--json`."""
    return [
        {
            "method": each.method,
            "kind": each.kind,
            "checkpointed": each.checkpointed,
            "stages": dict(each.stages),
            "peak": each.peak,
            "highest_stage": each.highest,
            "split": dict(each.split),
            **ratios(found, each),
        }
        for each in found
    ]
