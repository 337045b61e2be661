from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from mlflow.tracking import MlflowClient

from flows.reproduce import PipelineError, reproduce
from tests.flows.conftest import ran

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("prefect_server", "mlflow_store")]


def task_runs(flow_run_id: UUID | str) -> dict[str, Any]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    with get_client(sync_client=True) as client:
        # The server learns of task runs from events, shortly after their end.
        for _ in range(50):
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]}))
            if runs and all(run.state and (run.state.is_final() or run.state.name == "NotReady") for run in runs):
                break
            time.sleep(0.1)
    return {run.name: run for run in runs}


def artifacts() -> dict[str, Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return {artifact.key: artifact for artifact in client.read_latest_artifacts()}


def test_everything_runs_once_and_then_nothing(tiny: Path, mlflow_store: str) -> None:
    (tiny / "a.txt").write_text("not what other tests gave to the store that they share")
    (tiny / "reports").mkdir()
    (tiny / "reports" / "results.csv").write_text("task,metric,value\ncb,score,0.5\n")
    (tiny / "reports" / "gpt2.md").write_text("# Results of gpt2\n")
    results = reproduce(tiny)
    assert {name: result.outcome for name, result in results.items()} == dict.fromkeys(
        ["first", "left@x", "right", "last"], "ran"
    )
    assert sorted(ran(tiny)) == ["first", "last", "left", "right"]
    assert ran(tiny)[0] == "first"
    assert ran(tiny)[-1] == "last"

    found = artifacts()
    assert "cb" in found["results"].data
    assert found["report-gpt2"].data == "# Results of gpt2\n"
    assert str(tiny / "reports") in found["where-to-look"].data

    client = MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("gfpet/pipeline")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    parent = next(run for run in runs if (run.info.run_name or "").startswith("gfpet run"))
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FINISHED"
    assert [run.data.tags["gfpet.stage"] for run in children] == ["first"]

    assert reproduce(tiny) == {}
    assert len(ran(tiny)) == 4
    assert len(client.search_runs([experiment.experiment_id])) == len(runs)


def test_a_failed_stage_stops_only_those_that_need_it(tiny: Path, mlflow_store: str) -> None:
    (tiny / "left.txt").write_text("break-left")
    state = reproduce(tiny, return_state=True)
    assert state.is_failed()
    error = state.result(raise_on_failure=False)
    assert isinstance(error, PipelineError)
    text = str(error)
    assert "stage 'left@x' failed" in text
    assert "error: the input says that this stage breaks" in text
    assert "not run, since they need what failed: last." in text
    assert "2 of 4 stages are done and kept" in text
    assert sorted(ran(tiny)) == ["first", "left", "right"]
    runs = task_runs(state.state_details.flow_run_id)
    assert {name: runs[name].state.name for name in ("first", "left@x", "right", "last")} == {
        "first": "Completed",
        "left@x": "Failed",
        "right": "Completed",
        "last": "NotReady",
    }
    client = MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("gfpet/gpt2")
    assert experiment is not None
    newest = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]
    assert newest.info.status == "FAILED"

    (tiny / "left.txt").write_text("repaired")
    results = reproduce(tiny)
    assert {name: result.outcome for name, result in results.items()} == {
        "first": "unchanged",
        "left@x": "ran",
        "right": "unchanged",
        "last": "ran",
    }


def test_a_failure_that_passes_is_tried_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.dvc_stage import reproduce_stage

    monkeypatch.setattr(reproduce_stage, "retry_delay_seconds", [0, 0])
    (tiny / "a.txt").write_text("busy-first")
    results = reproduce(tiny, targets=["first"])
    assert results["first"].outcome == "ran"
    assert ran(tiny) == ["first", "first"]


def test_a_target_leaves_the_rest_alone(tiny: Path) -> None:
    assert list(reproduce(tiny, targets=["right"])) == ["first", "right"]
    assert ran(tiny) == ["first", "right"]


def test_ctrl_c_ends_the_running_stage_and_starts_no_other(tiny: Path) -> None:
    (tiny / "a.txt").write_text("sleep-first")
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            # As at a terminal; processes that a shell starts in the background ignore Ctrl-C.
            (
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
                "from flows.reproduce import reproduce; from pathlib import Path; reproduce(Path.cwd())"
            ),
        ],
        cwd=tiny,
        env=environment_with_server(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not (tiny / "pid.txt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        pid = int((tiny / "pid.txt").read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) != 0
    finally:
        process.kill()
        process.wait()
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    assert ran(tiny) == ["first"]


def environment_with_server() -> dict[str, str]:
    """Environment of a subprocess that uses the session's Prefect server and this project's packages."""
    import os

    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer._instances[None]
    return {**os.environ, "PREFECT_API_URL": server.api_url, "PYTHONPATH": str(Path(__file__).parents[2])}
