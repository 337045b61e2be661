"""`python -m gfpet.stages.prepare` in its own project folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import gfpet
from gfpet.config import Params, Prepare
from gfpet.data import read_examples, shipped_tasks

from .conftest import Rows

Run = Callable[[Path], subprocess.CompletedProcess[str]]


@pytest.fixture
def run_stage(tmp_path: Path) -> Run:
    """A function that runs the stage on all tasks of a release folder."""
    project = tmp_path / "project"
    project.mkdir()

    def run(root: Path) -> subprocess.CompletedProcess[str]:
        tasks = tuple(
            name for name, task in shipped_tasks().items() if task.release and (root / task.release.folder).is_dir()
        )
        params = Params(tasks=tasks, prepare=Prepare(source="directory", directory=str(root)))
        values: dict[str, Any] = params.model_dump(mode="json")
        (project / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(gfpet.__file__).parents[1]),
            "MLFLOW_TRACKING_URI": f"sqlite:///{project / 'mlflow.db'}",
        }
        command = [sys.executable, "-m", "gfpet.stages.prepare"]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


def test_every_task_is_written_and_counted(
    run_stage: Run, release: Callable[[Rows], Path], rows: Rows, tmp_path: Path
) -> None:
    done = run_stage(release(rows))
    assert done.returncode == 0, done.stderr
    project = tmp_path / "project"
    values = json.loads((project / "metrics" / "prepare.json").read_text(encoding="utf-8"))["values"]
    for task in shipped_tasks():
        folder = project / "outputs" / "prepare" / task
        counts = {split: len(read_examples(folder / f"{split}.jsonl")) for split in ("train", "dev", "eval")}
        assert all(counts.values()), task
        assert {split: values[f"{task}.{split}"] for split in counts} == counts
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["source"]["kind"] == "directory"
        assert str(project) not in json.dumps(manifest)
    assert "boolq: 1 train, 1 dev, 2 eval; dev: 1 instead of 200 examples" in done.stderr


def test_broken_rows_of_all_tasks_are_counted_together(
    run_stage: Run, release: Callable[[Rows], Path], rows: Rows
) -> None:
    rows["copa"][0]["label"] = None
    rows["rte"][1]["premise"] = ""
    root = release({task: rows[task] for task in ("cb", "copa", "rte")})
    done = run_stage(root)
    assert done.returncode == 1
    assert "4 broken rows:" in done.stderr
    assert f"{root}/COPA/train.jsonl:1: label: Input should be a valid integer (found null)" in done.stderr
    assert f"{root}/RTE/val.jsonl:2: premise: empty (found '')" in done.stderr
    assert "Traceback" not in done.stderr
