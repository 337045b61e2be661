"""Stage and estimate call the same functions: extra memory in one appears in both stage metrics and estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from gfpet import memory
from gfpet.config import apply_preset, load_params
from gfpet.estimate import Method, Workload, derived_shape, find_shape, kind_stages, run_method, shared_stages
from gfpet.memory import Meter, Resident, Step
from tests.projects import ROOT
from tests.stages.test_derive import LLAMA_ORDER, SETTINGS
from tests.stages.test_pipeline import run_stage
from tests.tiny import save_checkpoint_folder, tiny_llama

SIZE = 100_000_000
"""Bytes of the extra tensor: far more than everything else in these tiny models."""
CHANGES = ["kinds=[lora]", "reference.methods=[lora]", "align.method=ridge", "readout.epochs=1", "derive.heal.epochs=1"]
LINE = [stage for stage in LLAMA_ORDER if stage[0] not in ("evaluate", "similarity", "report")]
CALLED_BY_BODIES = (
    "gfpet.lm.training._runs.tune_module",
    "gfpet.lm.scoring._measured.predict",
    "gfpet.method.derive._runs.block_changes",
    "gfpet.method.derive._runs.with_blocks",
    "gfpet.method.derive._runs.heal",
    "gfpet.method.align._runs.fit_maps",
    "gfpet.method.align._runs.explained",
    "gfpet.method.prune._runs.activation_importance",
    "gfpet.method.prune._runs.cut",
    "gfpet.method.activation_cache.ActivationCache.fill",
    "gfpet.method.bridge._runs.fit_bridge",
    "gfpet.method.bridge._runs.predict_with_bridge",
    "gfpet.method.readout._runs.fit_readout",
)
STAGE_PHASES = {
    "derive/llama": {"choose", "cut", "heal"},
    "tune/llama/copa": {"train/lora-seed0", "infer/lora-seed0"},
    "reference/llama/copa": {"train/lora-seed0", "infer/lora-seed0"},
    "align/llama": {"align"},
    "prune/llama": {"importance-activation", "cut", "heal"},
    "bridge/llama/copa": {"cache", "train/lora-seed0", "infer/lora-seed0"},
    "readout/llama/copa": {"cache", "train/readout-seed0"},
}
ESTIMATED_PHASES = (
    *("choose", "cut", "heal"),
    "align",
    *("importance-activation", "cut", "heal"),
    "cache",
    *("cache", "train/readout"),
    *("train/lora", "infer", "train/lora", "infer/lora"),
    "train/lora",
)
"""In the order of `estimated`: `shared_stages`, `kind_stages`, a module tuned with gradients of L."""


def heavier(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with an extra live tensor, from its first step to its end, or throughout if it has no steps."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        held: list[torch.Tensor] = []

        def hold() -> None:
            if not held:
                held.append(torch.empty(SIZE, dtype=torch.uint8))

        def wider(step: Step) -> Step:
            @contextmanager
            def opened(size: int = 0) -> Iterator[None]:
                with step(size):
                    hold()
                    yield

            return opened

        if "hooks" in kwargs:
            kwargs["hooks"] = replace(kwargs["hooks"], step=wider(kwargs["hooks"].step))
        elif "step" in kwargs:
            kwargs["step"] = wider(kwargs["step"])
        else:
            hold()
        return function(*args, **kwargs)

    return run


def measured(folder: Path) -> dict[tuple[str, str], int]:
    """Peaks of the stage programs, by metrics file and phase."""
    for stage in LINE:
        run_stage(*stage)
    peaks = {}
    for name, phases in STAGE_PHASES.items():
        memory = json.loads((folder / "metrics" / f"{name}.json").read_text())["memory"]
        assert set(memory) == phases
        peaks |= {(name, phase): reading["cpu_live_peak_bytes"] for phase, reading in memory.items()}
    return peaks


def estimated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Peaks of `ESTIMATED_PHASES` for the same models and parameters, under fake tensors."""
    found: list[tuple[str, int]] = []

    @contextmanager
    def noted(phase: str, resident: Iterable[Resident] = (), **options: Any) -> Iterator[Meter]:
        with memory.measure(phase, resident, **options) as meter:
            yield meter
        found.append((phase, meter.reading.cpu_live_peak_bytes or 0))

    params, large = load_params(folder / "params.yaml"), find_shape(str(folder / "models" / "large"))
    small, work = derived_shape(large, params), Workload(2, 24, torch.device("cpu"))
    with monkeypatch.context() as patched:
        patched.setattr("gfpet.estimate._recorder.measure", noted)
        shared_stages(small, large, work, params)
        kind_stages("lora", small, large, work, params)
        run_method(Method("lora"), large, work, params, tune_only=True)
    assert tuple(phase for phase, _ in found) == ESTIMATED_PHASES
    return [peak for _, peak in found]


@pytest.mark.slow
def test_a_larger_body_is_seen_by_the_stage_and_by_the_estimate(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint_folder(project / "models" / "large", tiny_llama(24, 3))
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset(None, [*SETTINGS, *CHANGES], project / "params.yaml")
    by_stages, by_estimate = measured(project), estimated(project, monkeypatch)
    for name in CALLED_BY_BODIES:
        monkeypatch.setattr(name, heavier(resolve_name(name)))
    for place, peak in measured(project).items():
        assert peak - by_stages[place] == pytest.approx(SIZE, rel=0.01), place
    for phase, before, after in zip(ESTIMATED_PHASES, by_estimate, estimated(project, monkeypatch), strict=True):
        assert after - before == pytest.approx(SIZE, rel=0.01), phase
