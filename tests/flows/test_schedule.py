"""Guards the pinned versions: with an incompatible fastapi or SQLAlchemy, Prefect's schedules silently never fire."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

# The last of six cron fields is seconds: fires every five seconds.
SERVED = """
from pathlib import Path
from prefect import flow

@flow
def tick():
    with Path("ticks.txt").open("a") as out:
        out.write("tick\\n")

if __name__ == "__main__":
    tick.serve(name="every-five-seconds", cron="* * * * * */5")
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A Prefect server in its own process; yields the environment of its clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_PROFILES_PATH": str(tmp_path / "prefect" / "profiles.toml"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 300
        while not _is_healthy(environment["PREFECT_API_URL"]):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not come up"
            time.sleep(0.2)
        yield environment
    finally:
        _end(process)


@pytest.mark.slow
@pytest.mark.integration
def test_a_cron_run_fires(server: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SERVED)
    with (tmp_path / "served.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "served.py"], env=server, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    ticks = tmp_path / "ticks.txt"
    try:
        deadline = time.monotonic() + 300
        while not ticks.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.2)
        assert ticks.exists(), (tmp_path / "served.log").read_text()
    finally:
        _end(process)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=5)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
