"""Publishing from files, and parent runs, with real SQLite stores and a real `dvc repro`."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from ruamel.yaml import YAML

from gfpet.config import apply_preset, load_params
from gfpet.results import ResultRow
from gfpet.stages import _harness
from gfpet.tracking import close_parent, open_parent, publish_all, publish_stage, stage_key, tracking_uri
from gfpet.tracking.store import PARENT, STAGE_KEY

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"


def runs_of(project: Path, family: str = "gpt2") -> list[Run]:
    client = MlflowClient(tracking_uri(project))
    experiment = client.get_experiment_by_name(f"gfpet/{family}")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def children_of(project: Path, family: str = "gpt2") -> list[Run]:
    return [run for run in runs_of(project, family) if "gfpet.stage" in run.data.tags]


def make_result() -> None:
    """Make the files of `tune@gpt2-cb` with the harness."""
    with _harness.stage("tune", "gpt2/cb") as run:
        for step in range(40):
            run.log_curve("lora/loss", step, 1 / (step + 1))
        run.log_value("dev", 0.75)
        (run.output / "module.txt").write_text("m")
        row = ResultRow(family="gpt2", task="cb", kind="lora", method="plugged", metric="score", value=0.5, seed=0)
        run.log_results([row])


def lock_entry(project: Path) -> dict[str, Any]:
    """The entry that DVC would write for it."""
    entry: dict[str, Any] = {
        "cmd": "python -m gfpet.stages.tune gpt2 cb",
        "deps": [{"path": "outputs/prepare/cb", "md5": "abc.dir"}],
        "params": {"params.yaml": {"tune": {"epochs": 8}, "prune.factor": 4.0}},
        "outs": [
            {"path": path, "md5": hashlib.md5((project / path).read_bytes()).hexdigest()}
            for path in ("curves/tune/gpt2/cb.csv", "metrics/tune/gpt2/cb.json")
        ],
    }
    with (project / "dvc.lock").open("w") as out:
        YAML(typ="safe", pure=True).dump({"schema": "2.0", "stages": {"tune@gpt2-cb": entry}}, out)
    return entry


@pytest.fixture
def unpublished(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a result made while the store was down."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    make_result()
    lock_entry(project)
    assert publish_all(project) == {"tune@gpt2-cb": "down"}
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return project


def test_publish_catches_up_once(unpublished: Path) -> None:
    assert publish_all(unpublished) == {"tune@gpt2-cb": "published"}
    assert publish_all(unpublished) == {"tune@gpt2-cb": "present"}
    (child,) = children_of(unpublished)
    (parent,) = [run for run in runs_of(unpublished) if run is not child and "gfpet.stage" not in run.data.tags]
    assert (child.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert child.data.tags[PARENT] == parent.info.run_id
    assert child.data.tags[STAGE_KEY] == stage_key(lock_entry(unpublished))
    assert child.data.params["bridge.epochs"] == "4"
    client = MlflowClient(tracking_uri(unpublished))
    points = client.get_metric_history(child.info.run_id, "lora/loss")
    assert [(point.step, point.value) for point in points] == [(step, 1 / (step + 1)) for step in range(40)]
    seconds = json.loads((unpublished / "metrics/tune/gpt2/cb.json").read_text())["seconds"]
    assert child.data.metrics["seconds"] == seconds
    assert (child.info.end_time - child.info.start_time) / 1000 == pytest.approx(seconds, abs=0.01)
    assert (child.data.metrics["dev"], child.data.metrics["cb/lora/plugged/score"]) == (0.75, 0.5)
    assert [item.dataset.name for item in child.inputs.dataset_inputs] == ["cb"]
    assert {item.path for item in client.list_artifacts(child.info.run_id)} == {
        "module.txt",
        "results.json",
        "predictions.jsonl",
    }


def test_a_result_of_another_pipeline_run_is_pointed_to(unpublished: Path) -> None:
    params = load_params(unpublished / "params.yaml")
    first, second = (open_parent(unpublished, "gpt2", params, f"flow-{n}", "gfpet run") for n in (1, 2))
    assert first
    assert second
    assert publish_all(unpublished, {"gpt2": first}) == {"tune@gpt2-cb": "published"}
    assert publish_all(unpublished, {"gpt2": second}) == {"tune@gpt2-cb": "present"}
    (child,) = children_of(unpublished)
    assert child.data.tags[PARENT] == first
    tags = MlflowClient(tracking_uri(unpublished)).get_run(second).data.tags
    assert tags["gfpet.child.tune/gpt2/cb"] == child.info.run_id


def test_an_unfinished_run_is_filled_up(project: Path) -> None:
    make_result()
    entry = lock_entry(project)
    (child,) = children_of(project)
    client = MlflowClient(tracking_uri(project))
    client.set_tag(child.info.run_id, STAGE_KEY, stage_key(entry))
    client.update_run(child.info.run_id, status="RUNNING")
    assert publish_stage(project, "tune@gpt2-cb", entry) == "completed"
    (same,) = children_of(project)
    assert (same.info.run_id, same.info.status) == (child.info.run_id, "FINISHED")
    assert len(client.get_metric_history(child.info.run_id, "lora/loss")) == 40


def test_files_of_another_version_are_not_published(unpublished: Path) -> None:
    entry = lock_entry(unpublished)
    (unpublished / "metrics/tune/gpt2/cb.json").write_text('{"seconds": 1, "memory": {}, "values": {}}')
    assert publish_stage(unpublished, "tune@gpt2-cb", entry) == "absent"
    (unpublished / "metrics/tune/gpt2/cb.json").unlink()
    assert publish_all(unpublished) == {"tune@gpt2-cb": "absent"}
    assert runs_of(unpublished) == []


def test_changed_parameters_are_not_claimed(unpublished: Path) -> None:
    apply_preset(None, ["tune.epochs=7"], unpublished / "params.yaml")
    publish_all(unpublished)
    (child,) = children_of(unpublished)
    assert child.data.params == {"tune.epochs": "8", "prune.factor": "4.0"}


def test_a_parent_ends_with_the_headline_and_the_report(project: Path) -> None:
    reports = project / "reports"
    reports.mkdir()
    row = {"family": "gpt2", "task": "cb", "kind": "lora", "method": "plugged", "metric": "score", "value": 0.5}
    other = {**row, "family": "t5", "value": 0.9}
    (reports / "results.json").write_text(json.dumps([{**row, "gap_closed": 0.8}, other]))
    (reports / "memory.png").write_bytes(b"png")
    run_id = open_parent(project, "gpt2", load_params(project / "params.yaml"), "flow-1", "gfpet run")
    assert run_id
    close_parent(project, "gpt2", run_id, "FINISHED", reports)
    (parent,) = runs_of(project)
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "gfpet run")
    assert parent.data.metrics["plugged/lora/score"] == 0.5
    assert parent.data.metrics["plugged/lora/gap_closed/cb"] == 0.8
    assert parent.data.tags["gfpet.pipeline"] == "flow-1"
    assert parent.data.params["prune.factor"] == "4.0"
    artifacts = MlflowClient(tracking_uri(project)).list_artifacts(run_id)
    assert {item.path for item in artifacts} == {"results.json", "memory.png"}


def test_parents_do_without_a_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    told: list[str] = []
    assert open_parent(project, "gpt2", load_params(project / "params.yaml"), "f", "n", told.append) is None
    close_parent(project, "gpt2", None, "FINISHED", None, told.append)
    close_parent(project, "gpt2", "0" * 32, "FINISHED", None, told.append)
    assert len(told) == 2


DVC_YAML = """\
stages:
  prepare:
    cmd: python program.py prepare
    params: [prepare]
    outs: [outputs/prepare]
    metrics: [metrics/prepare.json]
  tune:
    matrix:
      task: [cb, rte]
    cmd: python program.py tune gpt2/${item.task}
    params: [tune]
    deps: [outputs/prepare]
    outs: ['outputs/tune/gpt2/${item.task}', 'curves/tune/gpt2/${item.task}.csv']
    metrics: ['metrics/tune/gpt2/${item.task}.json']
"""

PROGRAM = """\
import sys
from gfpet.stages._harness import stage
with stage(*sys.argv[1:]) as run:
    run.log_curve("loss", 1, 0.5)
    (run.output / "x.txt").write_text("x")
"""


def dvc(project: Path, *command: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_bare_repro_has_one_parent_and_publish_adds_nothing(project: Path) -> None:
    (project / "dvc.yaml").write_text(DVC_YAML)
    (project / "program.py").write_text(PROGRAM)
    dvc(project, "init", "--no-scm", "-q")
    dvc(project, "repro")
    children = children_of(project)
    (parent,) = [run for run in runs_of(project) if "gfpet.stage" not in run.data.tags]
    assert sorted(run.info.run_name for run in children) == ["tune gpt2/cb", "tune gpt2/rte"]
    assert {run.data.tags[PARENT] for run in children} == {parent.info.run_id}
    assert {run.info.status for run in (*children, parent)} == {"FINISHED"}
    assert [run.info.run_name for run in children_of(project, "pipeline")] == ["prepare"]
    assert set(publish_all(project).values()) == {"present"}
    output = dvc(project, "repro", "--force", "--single-item", "tune@cb")
    assert "MLflow has this result already" in output
    assert len(children_of(project)) == 2
    assert {run.info.status for run in runs_of(project)} == {"FINISHED"}
