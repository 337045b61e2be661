"""Compares estimated peaks with peaks of the same steps measured on real tensors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gfpet.config import Params
from gfpet.errors import ConfigError, unknown
from gfpet.estimate._methods import OTHERS, Peaks, run_method
from gfpet.estimate._ours import OF_KIND, SHARED, kind_stages, shared_stages
from gfpet.estimate._run import OURS
from gfpet.estimate._workload import Shape, Workload


def compare(
    names: Sequence[str],
    kind: str,
    small: Shape,
    large: Shape,
    work: Workload,
    params: Params,
    stages: Collection[str] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Estimate and measure methods; models have random weights.

    Returns one row per method and stage, with bytes `measured` and `estimated`, resident set `rss` in bytes, and
    `seconds`.

    Args:
        names: methods, each with and without checkpointing if both exist; `gfpet` for ours.
        kind: kind of module for ours.
        stages: stages of ours to run; all by default.
        say: told the title of each method before it runs.

    Raises:
        ConfigError: no such method.
    """
    known = {OURS, *(method.name for method in OTHERS)}
    for name in names:
        if name not in known:
            raise ConfigError(unknown("method", name, known))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="gfpet-") as folder:
        both = (work, replace(work, real=Path(folder)))
        for method in (method for method in OTHERS if method.name in names):
            say(method.title)
            rows += _rows(method.title, *(run_method(method, large, each, params) for each in both))
        if OURS in names:
            say(OURS)
            wanted = {*OF_KIND, *SHARED} if stages is None else set(stages)
            found = []
            for each in both:
                peaks: Peaks = {}
                if wanted & set(SHARED):
                    peaks |= shared_stages(small, large, each, params, wanted)
                if wanted & set(OF_KIND):
                    peaks |= kind_stages(kind, small, large, each, params, wanted)
                found.append(peaks)
            rows += _rows(f"{OURS}, {kind}", *found)
    return rows


def _rows(title: str, estimated: Peaks, measured: Peaks) -> list[dict[str, Any]]:
    return [
        {
            "method": title,
            "stage": stage,
            "estimated": estimated[stage].cpu_live_peak_bytes,
            "measured": reading.cpu_live_peak_bytes,
            "rss": reading.rss_peak_bytes,
            "seconds": reading.seconds,
        }
        for stage, reading in measured.items()
    ]
