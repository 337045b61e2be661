"""One function does the work of a stage: what makes it larger shows in the stage's metrics and in the estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from gfpet.config import apply_preset, load_params
from gfpet.estimate import Method, Workload, derived_shape, find_shape, kind_stages, run_method, shared_stages
from gfpet.memory import Step
from tests.stages.conftest import ROOT
from tests.stages.test_derive import LLAMA_ORDER, SETTINGS
from tests.stages.test_pipeline import run_stage
from tests.tiny import save_checkpoint_folder, tiny_llama

SIZE = 100_000_000
"""Bytes of the extra tensor: far more than everything else in these tiny models."""
LINE = [stage for stage in LLAMA_ORDER if stage[0] not in ("evaluate", "similarity", "report")]

BODIES = [
    {
        "gfpet.method.derive._runs.block_changes": [("derive/llama", "choose", "derive")],
        "gfpet.lm.training._runs.tune_module": [
            ("tune/llama/copa", "train/lora-seed0", "tune S"),
            ("reference/llama/copa", "train/lora-seed0", "tune L"),
        ],
        "gfpet.method.align._runs.fit_maps": [("align/llama", "align", "align")],
        "gfpet.method.prune._runs.activation_importance": [("prune/llama", "importance-activation", "prune")],
        "gfpet.method.activation_cache.ActivationCache.fill": [
            ("bridge/llama/copa", "cache", "cache"),
            ("readout/llama/copa", "cache", "readout"),
        ],
        "gfpet.method.bridge._runs.fit_bridge": [("bridge/llama/copa", "train/lora-seed0", "bridge")],
    },
    {
        "gfpet.method.derive._runs.heal": [("derive/llama", "heal", "derive"), ("prune/llama", "heal", "prune")],
        "gfpet.lm.scoring._measured.predict": [("tune/llama/copa", "infer/lora-seed0", "infer")],
        "gfpet.method.align._runs.explained": [("align/llama", "align", "align")],
        "gfpet.method.bridge._runs.predict_with_bridge": [("bridge/llama/copa", "infer/lora-seed0", "bridge")],
        "gfpet.method.readout._runs.fit_readout": [("readout/llama/copa", "train/readout-seed0", "readout")],
    },
]
"""Functions that the bodies call, each with its metrics, its phase, and its stage of the estimate; in two
rounds, since the estimate of a stage is the highest of its phases."""


def heavier(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with one more tensor that is alive from its first step to its end."""

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        held: list[torch.Tensor] = []

        def wider(step: Step) -> Step:
            @contextmanager
            def opened(size: int = 0) -> Iterator[None]:
                with step(size):
                    if not held:
                        held.append(torch.empty(SIZE, dtype=torch.uint8))
                    yield

            return opened

        if "hooks" in kwargs:
            kwargs["hooks"] = replace(kwargs["hooks"], step=wider(kwargs["hooks"].step))
        else:
            kwargs["step"] = wider(kwargs["step"])
        return function(*args, **kwargs)

    return run


@pytest.fixture
def llama(project: Path) -> Path:
    """A tiny large model and parameters under which every body has work to do."""
    save_checkpoint_folder(project / "models" / "large", tiny_llama(24, 4))
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    changes = ["kinds=[lora]", "reference.methods=[lora]", "align.method=ridge", "readout.epochs=1"]
    apply_preset(None, [*SETTINGS, *changes], project / "params.yaml")
    return project


def measured(folder: Path) -> dict[tuple[str, str], int]:
    """Peaks by metrics file and phase, of the stage programs."""
    for stage in LINE:
        run_stage(*stage)
    peaks = {}
    for path in (folder / "metrics").rglob("*.json"):
        name = str(path.relative_to(folder / "metrics").with_suffix(""))
        for phase, reading in json.loads(path.read_text())["memory"].items():
            peaks[name, phase] = reading.get("cpu_live_peak_bytes", 0)
    return peaks


def estimated(folder: Path) -> dict[str, int]:
    """Peaks by stage, of the same models and parameters under fake tensors."""
    params, large = load_params(folder / "params.yaml"), find_shape(str(folder / "models" / "large"))
    small, work = derived_shape(large, params), Workload(2, 24, torch.device("cpu"))
    peaks = shared_stages(small, large, work, params) | kind_stages("lora", small, large, work, params)
    peaks |= {"tune L": run_method(Method("lora"), large, work, params, tune_only=True)["tune L"]}
    return {stage: reading.cpu_live_peak_bytes or 0 for stage, reading in peaks.items()}


@pytest.mark.slow
def test_a_larger_body_is_seen_by_the_stage_and_by_the_estimate(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, estimate_before = measured(llama), estimated(llama)
    for bodies in BODIES:
        with monkeypatch.context() as patched:
            for name in bodies:
                patched.setattr(name, heavier(resolve_name(name)))
            after, estimate_after = measured(llama), estimated(llama)
        for name, places in bodies.items():
            for metrics, phase, stage in places:
                moved = after[metrics, phase] - before[metrics, phase]
                assert moved == pytest.approx(SIZE, rel=0.02), (name, metrics, phase)
                moved = estimate_after[stage] - estimate_before[stage]
                assert moved == pytest.approx(SIZE, rel=0.02), (name, stage)
