"""The harness around a stage: its files, its state after a kill, and its key under real DVC."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gfpet.config import apply_preset
from gfpet.errors import ConfigError, DataError
from gfpet.results import ResultRow, read_results, write_results
from gfpet.stages._harness import main, stage
from gfpet.stages._identity import running_stage
from gfpet.tracking import stage_key

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"


def row(**changes: object) -> ResultRow:
    columns = {"family": "gpt2", "task": "cb", "kind": "lora", "method": "plugged", "metric": "score", "value": 0.5}
    return ResultRow(**(columns | changes))  # type: ignore[arg-type]


def fail_half_way() -> bool:
    """Run a stage that fails half way; return whether it was resumed."""
    resumed = False

    def fail() -> None:
        nonlocal resumed
        with stage("tune", "gpt2/cb") as run:
            resumed = run.resumed
            run.log_curve("loss", 1, 0.5)
            (run.work / "checkpoint").write_text("c")
            raise DataError("broken")

    with pytest.raises(DataError):
        fail()
    return resumed


@pytest.fixture
def untracked(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    return project


def run_python(project: Path, program: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": NOWHERE, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stage_writes_its_files_where_the_design_says(untracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = untracked / "outputs/tune/gpt2/cb/stale.txt"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    with stage("tune", "gpt2/cb") as run:
        assert not stale.exists()
        assert run.params.prune.factor == 4
        (run.output / "module.txt").write_text("m")
        (run.work / "checkpoint").write_text("c")
        run.log_curve("loss", 2, 0.25)
        run.log_curve("loss", 10, 0.125)
        run.log_curve("accuracy", 2, 1)
        run.log_curve("loss", 2, 0.1)
        run.log_value("dev", 0.75)
        run.log_results([row(seed=1)])
        run.log_results([row(seed=0)])
    assert (untracked / "curves/tune/gpt2/cb.csv").read_text() == (
        "series,step,value\naccuracy,2,1.0\nloss,2,0.1\nloss,10,0.125\n"
    )
    metrics = json.loads((untracked / "metrics/tune/gpt2/cb.json").read_text())
    assert metrics.keys() == {"seconds", "memory", "values"}
    assert metrics["values"] == {"dev": 0.75}
    assert [item.seed for item in read_results(untracked / "outputs/tune/gpt2/cb/results.json")] == [0, 1]
    assert not (untracked / ".work/tune/gpt2/cb").exists()
    errors = capsys.readouterr().err
    assert errors.startswith("[tune@gpt2-cb] starts\n")
    assert errors.count("MLflow is out of reach") == 1


def test_a_stage_without_instance_and_without_points(untracked: Path) -> None:
    with stage("prepare"):
        pass
    assert (untracked / "curves/prepare.csv").read_text() == "series,step,value\n"
    assert (untracked / "metrics/prepare.json").exists()
    assert (untracked / "outputs/prepare").is_dir()


def test_memory_is_measured_by_phase(untracked: Path) -> None:
    import torch

    with stage("tune", "gpt2/cb") as run:
        for size in (1000, 250_000):
            with run.measure("train") as meter, meter.step(1):
                torch.zeros(size)
    reading = json.loads((untracked / "metrics/tune/gpt2/cb.json").read_text())["memory"]["train"]
    assert 1_000_000 <= reading["cpu_live_peak_bytes"] < 1_100_000
    assert reading["seconds"] > 0
    assert reading["steps"] == 2


def test_a_failed_stage_keeps_its_work_and_writes_no_metrics(untracked: Path) -> None:
    fail_half_way()
    assert not (untracked / "metrics/tune/gpt2/cb.json").exists()
    with stage("tune", "gpt2/cb") as run:
        assert run.resumed
        assert (run.work / "checkpoint").read_text() == "c"
    assert (untracked / "curves/tune/gpt2/cb.csv").read_text() == "series,step,value\nloss,1,0.5\n"


def test_state_of_other_parameters_is_not_resumed(untracked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail_half_way()
    apply_preset(None, ["preset=other"], untracked / "params.yaml")
    assert fail_half_way()
    apply_preset(None, ["tune.epochs=7"], untracked / "params.yaml")
    with stage("tune", "gpt2/cb") as run:
        assert not run.resumed
        assert not (run.work / "checkpoint").exists()
    assert "state of other inputs" in capsys.readouterr().err


def test_what_was_logged_before_a_kill_is_not_lost(untracked: Path) -> None:
    killed = run_python(
        untracked,
        """
        import time
        from gfpet.stages._harness import stage
        with stage("tune", "gpt2/cb") as run:
            run.log_value("dev", 0.5)
            for step in range(50):
                run.log_curve("loss", step, 1 / (step + 3))
            print("ready", flush=True)
            time.sleep(60)
        """,
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "ready\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    curves = untracked / ".work/tune/gpt2/cb/_harness/curves.csv"
    with curves.open("a") as out:
        out.write("loss,50,0.0")  # a line cut off by the kill
    with stage("tune", "gpt2/cb") as run:
        for step in range(40, 60):
            run.log_curve("loss", step, 1 / (step + 3))
    lines = (untracked / "curves/tune/gpt2/cb.csv").read_text().splitlines()
    assert lines[1:] == [f"loss,{step},{1 / (step + 3)!r}" for step in range(60)]
    assert json.loads((untracked / "metrics/tune/gpt2/cb.json").read_text())["values"] == {"dev": 0.5}


def test_an_error_for_the_user_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> None:
        raise ConfigError("seeds: is empty")

    with pytest.raises(SystemExit) as caught:
        main(program)
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: seeds: is empty\n"


def test_results_are_ordered_and_come_back(tmp_path: Path) -> None:
    rows = [row(task="rte"), row(seed=1, value=0.1 + 0.2), row(seed=0), row(n=5, ci_low=0.1, seed=0, metric="acc")]
    write_results(tmp_path / "a.json", rows)
    write_results(tmp_path / "b.json", reversed(rows))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_results(tmp_path / "a.json") == [rows[3], rows[2], rows[1], rows[0]]
    (tmp_path / "a.json").write_text('[{"family": "gpt2"}]')
    with pytest.raises(DataError, match="is not a list of result rows"):
        read_results(tmp_path / "a.json")


PRINT_KEY = """\
import sys, time
from pathlib import Path
from gfpet.stages._identity import running_stage
time.sleep(0.5)
Path(f"key-{sys.argv[1]}.txt").write_text(running_stage().key)
"""

DVC_YAML = """\
stages:
  tune:
    matrix:
      family: ${families}
      task: [cb, rte]
    cmd: python ../program.py ${item.family}-${item.task}
    params: [tune, seeds, 'models.${item.family}.small']
    deps: [code, 'data-${item.task}.txt']
    outs: ['key-${item.family}-${item.task}.txt']
"""


def dvc(project: Path, *command: str) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def locked(project: Path) -> dict[str, dict[str, object]]:
    stages: dict[str, dict[str, object]] = YAML(typ="safe", pure=True).load((project / "dvc.lock").read_text())[
        "stages"
    ]
    return stages


def test_the_running_stage_knows_the_key_that_dvc_lock_will_have(project: Path) -> None:
    (project.parent / "program.py").write_text(PRINT_KEY)
    (project / "code").mkdir()
    (project / "code" / "library.py").write_text("x = 1\n")
    for task in ("cb", "rte"):
        (project / f"data-{task}.txt").write_text(task)
    (project / "dvc.yaml").write_text(DVC_YAML)
    apply_preset(None, ["tune.learning_rate.lora=3e-5", "seeds=[0, 1]"], project / "params.yaml")
    initialise = dvc(project, "init", "--no-scm", "-q")
    output, _ = initialise.communicate()
    assert initialise.returncode == 0, output

    side_by_side = [
        dvc(project, "--wait-for-lock", "repro", "--single-item", f"tune@gpt2-{task}") for task in ("cb", "rte")
    ]
    for process in side_by_side:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    keys = {task: (project / f"key-gpt2-{task}.txt").read_text() for task in ("cb", "rte")}
    assert {task: stage_key(locked(project)[f"tune@gpt2-{task}"]) for task in keys} == keys
    assert keys["cb"] != keys["rte"]

    (project / "code" / "library.py").write_text("x = 2\n")
    output, _ = dvc(project, "repro", "--single-item", "tune@gpt2-cb").communicate()
    again = (project / "key-gpt2-cb.txt").read_text()
    assert again == stage_key(locked(project)["tune@gpt2-cb"]), output
    assert again != keys["cb"]


def test_key_looks_at_inputs_only() -> None:
    entry = {
        "cmd": "python x",
        "deps": [{"path": "a", "md5": "1", "size": 3}, {"path": "b.dir", "md5": "2.dir", "nfiles": 2}],
        "params": {"params.yaml": {"tune.epochs": 6}},
        "outs": [{"path": "o", "md5": "3"}],
    }
    key = stage_key(entry)
    assert stage_key({**entry, "outs": [], "deps": list(reversed(entry["deps"]))}) == key  # type: ignore[arg-type]
    for changed in (
        {"cmd": "python y"},
        {"deps": [{"path": "a", "md5": "9"}]},
        {"params": {"params.yaml": {"tune.epochs": 7}}},
    ):
        assert stage_key({**entry, **changed}) != key


def test_there_is_no_key_outside_dvc(project: Path) -> None:
    assert running_stage(project) is None
