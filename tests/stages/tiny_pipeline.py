"""A pipeline of tiny untrained models: its settings, its stages in order, and functions to run them in-process."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from gfpet.config import apply_preset
from tests.projects import ROOT
from tests.tiny import save_checkpoint_folder, tiny_gpt2

SMALL = [
    "tasks=[boolq,copa]",
    "prepare.train_size=24",
    "prepare.dev_size=8",
    "prepare.eval_size=12",
    "models.max_length=200",
    "models.gpt2.small.path=models/small",
    "models.gpt2.large.path=models/large",
    "tune.epochs=2",
    "tune.batch_size=8",
    "reference.epochs=2",
    "reference.batch_size=8",
    "bridge.epochs=2",
    "bridge.batch_size=8",
    "readout.epochs=2",
    "readout.batch_size=8",
    "align.examples=16",
    "prune.examples=8",
    "similarity.examples=8",
    "similarity.null_samples=2",
    "evaluate.scales=[2.0]",
    "evaluate.strategies=[algorithm1, scaling, blockwise_scaling, proxy_tuning, readout, auto]",
    "evaluate.auto=[algorithm1, scaling, blockwise_scaling, proxy_tuning, readout]",
    "evaluate.blockwise_scaling.steps=2",
    "report.resamples=50",
]
ORDER = [
    ("prepare",),
    ("derive", "gpt2"),
    ("tune", "gpt2", "boolq"),
    ("tune", "gpt2", "copa"),
    ("reference", "gpt2", "boolq"),
    ("reference", "gpt2", "copa"),
    ("align", "gpt2"),
    ("prune", "gpt2"),
    ("bridge", "gpt2", "boolq"),
    ("bridge", "gpt2", "copa"),
    ("readout", "gpt2", "boolq"),
    ("readout", "gpt2", "copa"),
    ("evaluate", "gpt2", "boolq"),
    ("evaluate", "gpt2", "copa"),
    ("similarity", "gpt2"),
    ("report",),
]


def make_project(folder: Path, *overrides: str) -> None:
    """Write tiny models and matching parameters to a folder, which must be the current one."""
    (folder / "presets").mkdir(exist_ok=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    save_checkpoint_folder(folder / "models" / "small", tiny_gpt2(16, 2, positions=256))
    save_checkpoint_folder(folder / "models" / "large", tiny_gpt2(24, 4, heads=3, positions=256))
    apply_preset(None, [*SMALL, *overrides], folder / "params.yaml")


def run_stage(stage: str, *arguments: str) -> None:
    """Run a stage program in this process, like `python -m gfpet.stages.<stage>`."""
    program = importlib.import_module(f"gfpet.stages.{stage}")
    name = {"pretrain": "pretrain_pair"}.get(stage, stage)
    getattr(program, name)(*arguments)


def outputs_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def start_from(finished: Path, folder: Path, stages: Sequence[str], *overrides: str) -> None:
    """Copy a finished project to another folder, in its state after these stages.

    Args:
        finished: a folder in which all stages have run.
        folder: the target, which must be the current folder.
        stages: stages whose results are copied; the caller runs the others.
        overrides: changed settings.
    """
    shutil.copytree(finished / "models", folder / "models")
    shutil.copy(finished / "params.yaml", folder)
    for stage in stages:
        for kind in ("outputs", "metrics", "curves"):
            for path in (finished / kind / stage, (finished / kind / stage).with_suffix(".json")):
                if path.is_dir():
                    shutil.copytree(path, folder / kind / stage)
                elif path.is_file():
                    (folder / kind).mkdir(exist_ok=True)
                    shutil.copy(path, folder / kind)
    apply_preset(None, overrides, folder / "params.yaml")
