"""Live logging to a real SQLite store: one run per result, even if the stage or the store fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from gfpet.config import load_params
from gfpet.errors import DataError
from gfpet.results import ResultRow
from gfpet.stages import _harness
from gfpet.stages._identity import Identity
from gfpet.tracking import StageTracker, open_parent, parent_environment, track_stage, tracking_uri
from gfpet.tracking import store as store_module
from gfpet.tracking.describe import git_tags, headline_metrics, metric_name, result_metrics
from gfpet.tracking.store import PARENT, STAGE_KEY, Store

ROOT = Path(__file__).parents[2]


def runs_of(project: Path, family: str = "gpt2") -> list[Run]:
    client = MlflowClient(tracking_uri(project))
    experiment = client.get_experiment_by_name(f"gfpet/{family}")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def children_of(project: Path, family: str = "gpt2") -> list[Run]:
    return [run for run in runs_of(project, family) if "gfpet.stage" in run.data.tags]


def history(project: Path, run: Run, metric: str) -> list[tuple[int, float]]:
    found = MlflowClient(tracking_uri(project)).get_metric_history(run.info.run_id, metric)
    return sorted((item.step, item.value) for item in found)


def finished(project: Path, key: str | None = "k1") -> StageTracker:
    tracker = track_stage(project, "tune", "gpt2/cb", load_params(project / "params.yaml"), key)
    tracker.point("loss", 1, 0.5)
    (project / "out").mkdir(exist_ok=True)
    tracker.finish({"seconds": 1.0}, [], project / "out")
    return tracker


def start(project: Path, program: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_stage_becomes_a_child_run_with_everything(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(project / "params.yaml")
    parent = open_parent(project, "gpt2", params, "flow-1", "gfpet run")
    assert parent
    for name, value in parent_environment({"gpt2": parent, "pipeline": None}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_harness, "running_stage", lambda _: Identity("k1", [("outputs/prepare/cb", "d" * 32)]))
    with _harness.stage("tune", "gpt2/cb") as run:
        for step in range(2500):
            run.log_curve("lora/loss", step, 1 / (step + 1))
        run.log_value("dev score", 0.75)
        (run.output / "deep").mkdir()
        (run.output / "deep" / "module.txt").write_text("m")
        with run.measure("train"):
            pass
        row = ResultRow(family="gpt2", task="cb", kind="lora", method="plugged", metric="score", value=0.5, seed=0)
        run.log_results([row])
    (child,) = children_of(project)
    assert child.info.status == "FINISHED"
    assert child.info.run_name == "tune gpt2/cb"
    tags = child.data.tags
    assert tags[PARENT] == parent
    assert tags[STAGE_KEY] == "k1"
    assert (tags["gfpet.stage"], tags["gfpet.instance"], tags["gfpet.preset"]) == ("tune", "gpt2/cb", "quick")
    assert (tags["gfpet.git.commit"], tags["gfpet.git.dirty"]) == ("none", "unknown")
    assert (tags["gfpet.large"], tags["gfpet.large.revision"]) == ("checkpoints/gpt2/large", "local")
    assert child.data.params["prune.factor"] == "4.0"
    assert child.data.params["tasks"] == '["boolq", "cb", "copa"]'
    assert history(project, child, "lora/loss") == [(step, 1 / (step + 1)) for step in range(2500)]
    metrics = child.data.metrics
    assert (metrics["dev score"], metrics["cb/lora/plugged/score"]) == (0.75, 0.5)
    assert metrics["memory/train/seconds"] >= 0
    assert metrics["system/rss_bytes"] > 1e6
    (dataset,) = child.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("cb", "d" * 32)
    client = MlflowClient(tracking_uri(project))
    assert {item.path for item in client.list_artifacts(child.info.run_id)} == {
        "deep",
        "results.json",
        "predictions.jsonl",
    }
    assert (project / "mlartifacts" / "gpt2").is_dir()


def test_a_result_is_never_logged_twice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(project)
    parent = open_parent(project, "gpt2", load_params(project / "params.yaml"), "flow-2", "again")
    monkeypatch.setenv("GFPET_PARENT_RUN", f"gpt2={parent}")
    again = finished(project)
    (child,) = children_of(project)
    assert again.run_id is None
    assert any(child.info.run_id in line for line in again.messages())
    assert parent
    assert (
        MlflowClient(tracking_uri(project)).get_run(parent).data.tags["gfpet.child.tune/gpt2/cb"] == child.info.run_id
    )
    finished(project, "k2")
    assert len(children_of(project)) == 2


def test_a_killed_stage_goes_on_in_the_same_run_with_a_whole_curve(project: Path) -> None:
    program = """
        import time
        from gfpet.stages import _harness
        from gfpet.stages._identity import Identity
        _harness.running_stage = lambda root: Identity("k1", [])
        with _harness.stage("tune", "gpt2/cb") as run:
            for step in range({first}, {last}):
                run.log_curve("loss", step, 1 / (step + 1))
            print("ready", flush=True)
            time.sleep({sleep})
        """
    killed = start(project, program.format(first=0, last=30, sleep=60))
    assert killed.stdout is not None
    while killed.stdout.readline() != "ready\n":
        pass
    time.sleep(4)  # one send interval: the store has these points, and must not get them again
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (child,) = children_of(project)
    assert child.info.status == "RUNNING"
    assert len(history(project, child, "loss")) == 30
    resumed = start(project, program.format(first=20, last=50, sleep=0))
    output, _ = resumed.communicate(timeout=60)
    assert f"goes on with MLflow run {child.info.run_id}" in output
    (same,) = children_of(project)
    assert (same.info.run_id, same.info.status) == (child.info.run_id, "FINISHED")
    assert history(project, same, "loss") == [(step, 1 / (step + 1)) for step in range(50)]


def test_a_failed_stage_ends_its_run_as_failed(project: Path) -> None:
    with pytest.raises(DataError), _harness.stage("tune", "gpt2/cb"):
        raise DataError("broken")
    (child,) = children_of(project)
    assert child.info.status == "FAILED"


def test_a_store_that_is_down_costs_seconds_and_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    with _harness.stage("tune", "gpt2/cb") as run:
        run.log_curve("loss", 1, 0.5)
        run.log_value("dev", 0.5)
    assert time.monotonic() - started < 10
    assert capsys.readouterr().err.count("MLflow is out of reach") == 1
    assert (project / "metrics/tune/gpt2/cb.json").exists()


def test_a_store_that_goes_down_in_the_middle_is_survived(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ConnectionError("gone")

    with _harness.stage("tune", "gpt2/cb") as run:
        monkeypatch.setattr(Store, "log_points", broken)
        run.log_curve("loss", 1, 0.5)
    assert capsys.readouterr().err.count("MLflow is out of reach (ConnectionError: gone)") == 1
    assert "loss,1,0.5" in (project / "curves/tune/gpt2/cb.csv").read_text()
    (child,) = children_of(project)
    assert child.info.status == "RUNNING"


def test_three_processes_on_a_fresh_store(fresh_project: Path) -> None:
    program = """
        import sys
        from gfpet.stages import _harness
        from gfpet.stages._identity import Identity
        task = "{task}"
        _harness.running_stage = lambda root: Identity(task, [])
        with _harness.stage("tune", "gpt2/" + task) as run:
            run.log_curve("loss", 1, 0.5)
        """
    tasks = ["cb", "rte", "copa"]
    processes = [start(fresh_project, program.format(task=task)) for task in tasks]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert "out of reach" not in output
    assert sorted(run.data.tags[STAGE_KEY] for run in children_of(fresh_project)) == sorted(tasks)
    assert {run.info.status for run in children_of(fresh_project)} == {"FINISHED"}


def test_a_queued_experiment_logs_to_the_project_it_was_copied_from(project: Path) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "tmp123"
    copy.mkdir(parents=True)
    assert tracking_uri(copy) == tracking_uri(project) == f"sqlite:///{project.resolve() / 'mlflow.db'}"


def test_tags_tell_commit_and_changes(project: Path) -> None:
    def git(*command: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *command], cwd=project, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    (project / "dvc.lock").write_text("a")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (project / "dvc.lock").write_text("b")
    (project / "untracked").write_text("c")
    assert git_tags(project) == {
        "gfpet.git.commit": commit,
        "gfpet.git.dirty": "False",
        "mlflow.source.git.commit": commit,
    }
    (project / "params.yaml").write_text("")
    assert git_tags(project)["gfpet.git.dirty"] == "True"


def test_large_files_stay_with_dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "ARTIFACT_CAP_BYTES", 2**20)
    (project / "out").mkdir()
    (project / "out" / "large").write_bytes(b"0" * (2**20 + 1))
    (project / "out" / "small").write_bytes(b"0")
    tracker = finished(project)
    (child,) = children_of(project)
    artifacts = MlflowClient(tracking_uri(project)).list_artifacts(child.info.run_id)
    assert [item.path for item in artifacts] == ["small"]
    assert tracker.messages() == ["MLflow: large (1 MiB) is left out (too large); DVC has it"]


def test_names_fit_mlflow() -> None:
    assert metric_name("cb/ΔW (lora)/a@b") == "cb/_W _lora_/a_b"
    row = ResultRow(family="gpt2", task="cb", kind="lora", method="plugged", metric="score", value=0.25, seed=0)
    both = [row, ResultRow(**{**row.__dict__, "seed": 1, "value": 0.75})]
    assert result_metrics(both) == {
        "cb/lora/plugged/score": 0.5,
        "cb/lora/plugged/score/seed-0": 0.25,
        "cb/lora/plugged/score/seed-1": 0.75,
    }


def test_headline_averages_seeds_then_tasks() -> None:
    def row(task: str, seed: int, value: float, metric: str = "score") -> dict[str, object]:
        return {
            **{"family": "gpt2", "task": task, "kind": "lora", "method": "plugged", "strategy": "", "seed": seed},
            **{
                "metric": metric,
                "value": value,
                "gap_closed": value * 2,
                "peak_memory_bytes": 10 + seed,
                "seconds": 3.0,
            },
        }

    rows = [row("cb", 0, 0.2), row("cb", 1, 0.4), row("rte", 0, 0.5), row("cb", 0, 0.9, "macro_f1")]
    metrics = headline_metrics(rows)
    assert metrics["plugged/lora/score"] == pytest.approx(0.4)
    assert metrics["plugged/lora/score/cb"] == pytest.approx(0.3)
    assert metrics["plugged/lora/macro_f1"] == 0.9
    assert metrics["plugged/lora/gap_closed"] == pytest.approx(0.8)
    assert metrics["plugged/lora/peak_memory_bytes"] == 11
    assert metrics["plugged/lora/seconds"] == pytest.approx(6.0)
