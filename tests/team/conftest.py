"""Real services on 127.0.0.1 for the team tests; tests of services that cannot be installed are skipped."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tasks.services import Ports, ServiceError, Stack
from tasks.services.object_store import install
from tasks.services.postgres import data_folder, programs
from tasks.services.process import HOST, free_port, start, stop, wait_healthy
from tests.team.project import PROJECT

ENVIRONMENTS = PROJECT / ".services"
"""Kept between test runs: installing the S3 server takes longer than its tests."""


def require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install -c constraints.txt -e '.[team,dask]'")


@pytest.fixture(scope="session")
def s3_program() -> Path:
    """Path of the S3 server's program."""
    require("boto3", "dvc_s3")
    try:
        return install(ENVIRONMENTS)
    except ServiceError as error:
        pytest.skip(f"no S3 server: {error}")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, s3_program: Path) -> Iterator[Stack]:
    """All services, on free ports. Prefect checks for late and due runs more often than by default."""
    require("psycopg2", "flask_wtf")
    assert s3_program.is_file()
    try:
        programs()
    except ServiceError as error:
        pytest.skip(str(error))
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    services = Stack(tmp_path_factory.mktemp("services"), ports, artifacts="s3", environments=ENVIRONMENTS)
    loops = {"SCHEDULER_LOOP_SECONDS": "2", "LATE_RUNS_LOOP_SECONDS": "2", "LATE_RUNS_AFTER_SECONDS": "3"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in loops.items():
                patch.setenv(f"PREFECT_SERVER_SERVICES_{name}", value)
            services.start()
        yield services
    finally:
        services.stop()
        shutil.rmtree(data_folder(services.folder), ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_goes_on(tmp_path: Path) -> Iterator[None]:
    """Check that no process started in the test's folder outlives the test."""
    yield
    deadline = time.monotonic() + 300
    while left := list(_working_below(tmp_path)):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)


def _working_below(folder: Path) -> Iterator[list[str]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if folder in (Path(process.cwd()), *Path(process.cwd()).parents):
                yield process.cmdline()


@pytest.fixture
def team_environment(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The environment of a user of the services, with a folder for clones."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    environment = stack.client_environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GFPET_CLONES", str(tmp_path / "clones"))
    # Earlier tests may have started a server of their own, which this process's settings still name.
    here = {setting: environment[setting.name] for setting in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
    with temporary_settings(here):
        yield stack


@pytest.fixture
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Address and options of a DVC remote of the requested type."""
    kind = request.param
    if kind == "directory":
        yield str(tmp_path / "shared"), {}
    elif kind == "s3":
        endpoint = request.getfixturevalue("team_environment").s3_environment()["AWS_ENDPOINT_URL"]
        yield "s3://gfpet/dvc", {"endpointurl": endpoint}
    else:
        yield from _ssh(tmp_path)


def _ssh(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An SSH server for this user, with keys made for this test."""
    require("dvc_ssh")
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        pytest.skip("no sshd; apt-get install openssh-server")
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir(mode=0o700)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    settings = f"""\
        ListenAddress {HOST}
        Port {port}
        HostKey {folder / "host"}
        AuthorizedKeysFile {folder / "authorized"}
        PasswordAuthentication no
        PubkeyAuthentication yes
        PermitRootLogin prohibit-password
        StrictModes no
        UsePAM no
        PidFile none
        Subsystem sftp internal-sftp
    """
    (folder / "config").write_text(settings)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's chroot; normally the package creates it at boot
    start("sshd", [program, "-D", "-e", "-f", str(folder / "config")], folder, {"PATH": os.environ["PATH"]})
    try:
        wait_healthy("sshd", folder, lambda: _accepts(port))
        options = {"port": str(port), "keyfile": str(folder / "user"), "allow_agent": "false"}
        yield f"ssh://{_user()}@{HOST}{tmp_path / 'shared'}", options
    finally:
        stop("sshd", folder)


def _accepts(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _user() -> str:
    import getpass

    return getpass.getuser()
