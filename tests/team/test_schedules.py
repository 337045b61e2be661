"""Scheduled runs: showing and changing them, checks before the start, no overlap, and resuming after a kill."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from tasks.services.process import HOST, running
from tests.team.project import ask, change_input, make_team, outputs
from tests.team.workers import wait, wait_for_workers, workers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

POOL = "gfpet"


@pytest.fixture
def project(tmp_path: Path, team_environment: object) -> Path:
    """The clone whose runs are scheduled."""
    assert team_environment
    return make_team(tmp_path / "team", str(tmp_path / "shared")).clone("one")


@pytest.fixture
def hook() -> Iterator[tuple[str, list[str]]]:
    """Address of a webhook, and the messages that it received."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{HOST}:{server.server_port}/hook", told
    server.shutdown()
    server.server_close()
    thread.join()


def runs(deployment: str) -> list[Any]:
    """Runs of a deployment, oldest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter

    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            deployment_filter=DeploymentFilter.model_validate({"name": {"any_": [deployment]}})
        )
    return sorted(found, key=lambda run: run.created)


def state_of(run_id: UUID) -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(run_id).state_name)


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("clones/*/*/.work/tune@cb/checkpoint")) + list(
        folder.glob("homes/*/*/*/.work/*/checkpoint")
    )


def test_schedules_and_a_killed_run(
    project: Path, tmp_path: Path, hook: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, told = hook
    assert "no deployments of gfpet" in ask(project, "schedule", fails=True)
    monkeypatch.setenv("GFPET_WEBHOOK", url)
    ask(project, "schedule", "apply", "--webhook")

    # Show and change.
    shown = ask(project, "schedule")
    lines = {line.split()[1]: line for line in shown.splitlines() if line.startswith("│")}
    assert set(lines) == {"nightly", "weekly-study", "on-demand"}
    assert "0 2 * * *" in lines["nightly"]
    assert "Etc/UTC" in lines["nightly"]
    assert "skip" in lines["nightly"]
    ask(project, "schedule", "set", "nightly", "--cron", "30 3 * * 1", "--timezone", "Europe/Berlin", "--pause")
    ask(project, "schedule", "set", "weekly-study", "--pause")
    nightly = next(line for line in ask(project, "schedule").splitlines() if "nightly" in line)
    assert "30 3 * * 1" in nightly
    assert "Europe/Berlin" in nightly
    assert " no " in nightly

    # Invalid values are refused before anything starts.
    assert "did you mean 'nightly'?" in ask(project, "schedule", "set", "nihgtly", "--pause", fails=True)
    assert "schedule 'every night'" in ask(project, "schedule", "set", "nightly", "--cron", "every night", fails=True)
    assert "time zone 'Mars/Olympus'" in ask(
        project, "schedule", "set", "nightly", "--timezone", "Mars/Olympus", fails=True
    )
    assert "bridge.epochs: got -1" in ask(project, "schedule", "run", "-S", "bridge.epochs=-1", fails=True)
    assert "unknown stage 'tuen'" in ask(project, "schedule", "run", "--target", "tuen", fails=True)
    assert _server_takes({"targets": 5}) is False
    assert runs("on-demand") == []

    change_input(project, "hang-tune@cb")
    with workers(tmp_path / "homes", POOL, "first", cwd=project):
        wait_for_workers(POOL, 1)
        ask(project, "schedule", "set", "on-demand", "--overlap", "skip")
        ask(project, "schedule", "run", "on-demand", "-S", "tune.epochs=3")
        (killed,) = runs("on-demand")
        wait("the run is in the middle of a stage", lambda: bool(checkpoints(tmp_path)))

        # A second run is skipped while the first one is still running.
        ask(project, "schedule", "run", "on-demand")
        skipped = runs("on-demand")[1]
        wait("the second is left out", lambda: state_of(skipped.id) == "Cancelled")
        assert state_of(killed.id) == "Running"

        worker = running("first", tmp_path / "homes")
        assert worker is not None
        for process in worker.children(recursive=True):
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        wait("the killed run is marked", lambda: state_of(killed.id) == "Crashed")
        wait("the webhook is told", lambda: any("Crashed" in text for text in told))

        # The same run again resumes: finished results are kept, and the stage resumes from its checkpoint.
        ask(project, "schedule", "run", "on-demand", "-S", "tune.epochs=3")
        resumed = runs("on-demand")[2]
        wait("the next run ends", lambda: state_of(resumed.id) in ("Completed", "Failed", "Crashed"))
    assert state_of(resumed.id) == "Completed"
    (clone,) = [path.parents[2] for path in checkpoints(tmp_path)]
    assert '"resumed": 1.0' in outputs(clone)["metrics/tune/gpt2/cb.json"]
    log = (clone / "log.txt").read_text().split()
    assert sorted(log) == ["prepare", "report", "tune@cb", "tune@cb", "tune@rte"]
    # The project's own folder is unchanged.
    assert not (project / "outputs").exists()
    assert subprocess.run(["git", "diff", "--quiet"], cwd=project, check=False).returncode == 0


def _server_takes(parameters: dict[str, Any]) -> bool:
    """Whether the server itself, as used by its pages, accepts these parameters for a run."""
    from gfpet.errors import ConfigError
    from tasks.schedules import start_run

    try:
        start_run("on-demand", parameters)
    except ConfigError:
        return False
    return True
