"""Servers that outlive the command that started them, identified by process id and start time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gfpet.errors import GfpetError

HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 20.0
_LOG_LINES = 12
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this process, which must wait for them at their end; otherwise they remain as zombies."""


class ServiceError(GfpetError):
    """A service does not start or does not become healthy."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def require_free(name: str, port: int) -> None:
    """Check that a port is free.

    Raises:
        ServiceError: it is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServiceError(
                f"{name} cannot have port {port}: {error.strerror}. Free it, or choose another: "
                f"gfpet services start --{name}-port PORT."
            ) from None


def start(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> None:
    """Start a server in its own session; write its output to `<folder>/<name>.log`, its identity to `<name>.pid`.

    Pass secrets in `environment`: all users of the machine can read a process's arguments.
    """
    log = folder / f"{name}.log"
    with log.open("ab") as out:
        log.chmod(0o600)
        process = subprocess.Popen(
            command,
            cwd=cwd or folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[process.pid] = process
    identity = {"pid": process.pid, "created": psutil.Process(process.pid).create_time()}
    (folder / f"{name}.pid").write_text(json.dumps(identity), encoding="utf-8")


def running(name: str, folder: Path) -> psutil.Process | None:
    """The server started by `start`, if it still runs. The start time excludes other processes with a reused id."""
    identity = _identity(name, folder)
    if identity is None:
        return None
    try:
        process = psutil.Process(identity["pid"])
        same = abs(process.create_time() - identity["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return None
    return process if same else None


def stop(name: str, folder: Path) -> bool:
    """End a server and its child processes; return whether it was still running."""
    identity = _identity(name, folder)
    if identity is None:
        return False
    process, child = running(name, folder), _children.pop(identity["pid"], None)
    (folder / f"{name}.pid").unlink()
    # A child that ended by itself keeps its id until it is waited for, and may have left processes of its own.
    if process is not None or child is not None:
        _end_group(identity["pid"])
    if child is not None:
        child.wait()
    return process is not None


def _identity(name: str, folder: Path) -> dict[str, Any] | None:
    file = folder / f"{name}.pid"
    if not file.is_file():
        return None
    identity: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return identity


def _end_group(group: int) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while _group_lives(group):
            if time.monotonic() > deadline:
                os.killpg(group, signal.SIGKILL)
                break
            time.sleep(0.05)


def wait_healthy(name: str, folder: Path, healthy: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait until a server started by `start` answers.

    Raises:
        ServiceError: it ended, or does not answer in time; with the last lines of its log.
    """
    deadline = time.monotonic() + seconds
    while not healthy():
        ended = running(name, folder) is None
        if ended or time.monotonic() > deadline:
            log = folder / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            what = "ended by itself" if ended else f"does not answer after {seconds:.0f} s"
            raise ServiceError("\n".join([f"{name} {what}; the last lines of {log}:", *(f"    {x}" for x in lines)]))
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Whether a GET succeeds or is refused for lack of a login: both show that the server is up."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status < 400)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except OSError:
        return False


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (OSError, psutil.Error):
            continue
    return False
