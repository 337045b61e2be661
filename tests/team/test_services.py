"""The services: they are healthy, require a login, and do not reveal passwords."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tasks.services import ServiceError, Stack
from tasks.services.process import HOST, _children, free_port, require_free, running, start, stop, wait_healthy

pytestmark = pytest.mark.integration


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_all_are_healthy_and_ask_for_a_password(team_environment: Stack, tmp_path: Path) -> None:
    stack = team_environment
    assert set(stack.status().values()) == {"healthy"}
    mlflow, prefect = f"http://{HOST}:{stack.ports.mlflow}", f"http://{HOST}:{stack.ports.prefect}"
    assert status(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1") == 401
    assert status(f"{prefect}/api/admin/version") == 401

    client = MlflowClient()
    run = client.create_run(client.create_experiment("services")).info.run_id
    (tmp_path / "module.txt").write_text("weights")
    client.log_artifact(run, str(tmp_path / "module.txt"))
    (tmp_path / "down").mkdir()
    assert Path(client.download_artifacts(run, "module.txt", str(tmp_path / "down"))).read_text() == "weights"
    assert client.get_run(run).info.artifact_uri.startswith("mlflow-artifacts:")

    from tasks.services.object_store import s3_client

    secrets = json.loads((stack.folder / "secrets.json").read_text())
    store = s3_client(stack.s3_environment()["AWS_ENDPOINT_URL"], secrets["s3"])
    keys = [item["Key"] for item in store.list_objects_v2(Bucket="gfpet")["Contents"]]
    assert any(key.endswith("module.txt") for key in keys)

    # Each service listens on this machine only, and has no password in its arguments or log.
    for name in ("postgres", "s3", "mlflow", "prefect"):
        leader = running(name, stack.folder)
        assert leader is not None
        for process in (leader, *leader.children(recursive=True)):
            command = " ".join(process.cmdline())
            assert not any(secret in command for secret in secrets.values())
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip == HOST
        log = (stack.folder / f"{name}.log").read_text(errors="replace")
        assert not any(secret in log for secret in secrets.values())
    for file in ("secrets.json", "env", "mlflow-auth.ini"):
        assert (stack.folder / file).stat().st_mode & 0o077 == 0


def test_a_server_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    start("broken", ["sh", "-c", "echo no database here; exit 3"], tmp_path, {"PATH": "/usr/bin:/bin"})
    with pytest.raises(ServiceError, match=r"broken ended by itself(.|\n)*no database here"):
        wait_healthy("broken", tmp_path, lambda: False)
    process = _children[json.loads((tmp_path / "broken.pid").read_text())["pid"]]
    assert not stop("broken", tmp_path)
    assert process.returncode == 3, "its end is taken note of"


def test_what_a_killed_server_has_started_ends_with_it(tmp_path: Path) -> None:
    start("parent", ["sh", "-c", "sleep 600 & wait"], tmp_path, {"PATH": "/usr/bin:/bin"})
    parent = running("parent", tmp_path)
    assert parent is not None
    while not (children := parent.children()):
        time.sleep(0.02)
    parent.kill()
    while running("parent", tmp_path):
        time.sleep(0.02)
    assert not stop("parent", tmp_path)
    assert not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    port = free_port()
    start(
        "taker", [sys.executable, "-m", "http.server", "--bind", HOST, str(port)], tmp_path, {"PATH": "/usr/bin:/bin"}
    )
    try:
        wait_healthy("taker", tmp_path, lambda: status(f"http://{HOST}:{port}") == 200 if _open(port) else False)
        with pytest.raises(ServiceError, match=rf"mlflow cannot have port {port}.*--mlflow-port"):
            require_free("mlflow", port)
    finally:
        assert stop("taker", tmp_path)
    assert running("taker", tmp_path) is None
    require_free("mlflow", port)


def _open(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
