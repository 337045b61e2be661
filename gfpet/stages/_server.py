"""The stage server: imports the stages' dependencies once, and forks a process for each stage program it is handed.

Importing torch, transformers and MLflow takes longer than many small stages. A fork of a process that has only done
these imports starts at once and computes the same bytes. Linux only. `tasks.stage_server` starts it:

    python -m gfpet.stages._server DESCRIPTOR      # of a listening socket; ends when standard input does

`gfpet.stages._handover` is its client, and describes the protocol.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gfpet.stages
from gfpet.stages._handover import ACCEPTED, NUMBER, receive

GRACE_SECONDS = 5.0
"""Seconds from SIGTERM to SIGKILL for an abandoned program; also the time limit for a client's request."""

FURTHER = (
    "dvc.repo",
    "dvc.stage.serialize",
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "psutil",
)
"""Modules that stages import only when needed."""

_TICK = 0.5
_PARENT_DEATH_SIGNAL = 1


@dataclass
class _Running:
    """A forked program and the client that waits for it."""

    pid: int
    client: socket.socket
    ended_by: float | None = None
    """Time to kill it, set when its client has disappeared; None while the client waits."""


@dataclass
class _Server:
    listener: socket.socket
    files: dict[str, tuple[int, int]]
    """Files of the imported code, with size and modification time to detect edits."""
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    running: dict[int, _Running] = field(default_factory=dict)
    """By pidfd."""


def main() -> None:
    """Serve until standard input ends and no program runs; in a fork, run the requested program."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    preload()
    request = _serve(_Server(listener, _state(_code())))
    if request is not None:
        sys.argv = [request["module"], *request["arguments"]]
        sys.modules.pop(request["module"], None)  # preloaded, but runpy must import it itself
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def preload() -> None:
    """Import the stages' dependencies. Opens no connection, starts no thread, draws no random number."""
    programs = [each.name for each in pkgutil.iter_modules(gfpet.stages.__path__) if not each.name.startswith("_")]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would start a thread
    for name in (*(f"gfpet.stages.{program}" for program in programs), *FURTHER):
        with suppress(ImportError):  # the stage that needs the module reports it
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # otherwise garbage collection would copy all these objects into every fork


def _serve(server: _Server) -> dict[str, Any] | None:
    """Serve. Returns the request in a fork, and None in the server when it has finished."""
    server.selector.register(server.listener, selectors.EVENT_READ, "listener")
    server.selector.register(0, selectors.EVENT_READ, "owner")
    owned = True
    while owned or server.running:
        for key, _ in server.selector.select(_TICK):
            if key.data == "listener":
                request = _accept(server)
                if request is not None:
                    return request
            elif key.data == "owner":
                owned = bool(os.read(0, 1))
                if not owned:
                    server.selector.unregister(0)
                    server.selector.unregister(server.listener)
                    server.listener.close()
            elif key.data == "program":
                _end(server, key.fd)
            else:  # a client: its only event is its disconnection
                _abandon(server, key.data)
        _kill_late(server)
    return None


def _accept(server: _Server) -> dict[str, Any] | None:
    """Fork for one client; returns its request in the fork, None in the server."""
    client, _ = server.listener.accept()
    client.settimeout(GRACE_SECONDS)
    descriptors: list[int] = []
    try:
        head, descriptors, _, _ = socket.recv_fds(client, NUMBER.size, 2)
        request: dict[str, Any] = json.loads(receive(client, NUMBER.unpack(head)[0]))
        # Refuse another folder, or code edited since its import: the server would run the wrong code.
        fits = request["folder"] == str(Path.cwd()) and _state(server.files) == server.files and len(descriptors) == 2
    except (OSError, ValueError, struct.error):
        fits = False
    parent = os.getpid()
    pid = os.fork() if fits else -1
    if pid == 0:
        _become(server, parent, request, descriptors)
        client.close()
        return request
    for each in descriptors:
        os.close(each)
    if pid < 0:
        client.close()
        return None
    handle = os.pidfd_open(pid)
    client.settimeout(None)
    server.running[handle] = _Running(pid, client)
    server.selector.register(handle, selectors.EVENT_READ, "program")
    server.selector.register(client, selectors.EVENT_READ, handle)
    with suppress(OSError):
        client.sendall(ACCEPTED)
    return None


def _become(server: _Server, parent: int, request: dict[str, Any], descriptors: list[int]) -> None:
    """Give the fork the client's environment and output, and close the server's descriptors."""
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    server.selector.close()
    server.listener.close()
    for handle, each in server.running.items():
        os.close(handle)
        each.client.close()
    for target, source in zip((1, 2), descriptors, strict=True):
        os.dup2(source, target)
        os.close(source)
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
    os.environ.clear()
    os.environ.update(request["environment"])


def _end(server: _Server, handle: int) -> None:
    """Send the client its program's exit status."""
    program = server.running.pop(handle)
    _, status = os.waitpid(program.pid, 0)
    server.selector.unregister(handle)
    os.close(handle)
    if program.ended_by is None:
        server.selector.unregister(program.client)
        with suppress(OSError):
            program.client.sendall(NUMBER.pack(os.waitstatus_to_exitcode(status)))
    program.client.close()


def _abandon(server: _Server, handle: int) -> None:
    """End the program of a client that has disappeared."""
    program = server.running.get(handle)
    if program is None or program.ended_by is not None:
        return
    server.selector.unregister(program.client)
    program.ended_by = time.monotonic() + GRACE_SECONDS
    _signal(program, signal.SIGTERM)


def _kill_late(server: _Server) -> None:
    for program in server.running.values():
        if program.ended_by is not None and time.monotonic() > program.ended_by:
            _signal(program, signal.SIGKILL)


def _signal(program: _Running, number: int) -> None:
    """Signal the program's process group, or the program alone if it has no group yet."""
    try:
        os.killpg(program.pid, number)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(program.pid, number)


def _code() -> Iterator[str]:
    """Files of the imported modules of gfpet."""
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and name.partition(".")[0] == "gfpet":
            yield path


def _state(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Size and modification time of files; missing files are left out."""
    found = {}
    for path in paths:
        with suppress(OSError):
            about = Path(path).stat()
            found[path] = (about.st_size, about.st_mtime_ns)
    return found


if __name__ == "__main__":
    main()
