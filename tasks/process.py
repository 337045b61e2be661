"""Runs `dvc` in its own process group and streams its output, so that no process outlives the flow."""

from __future__ import annotations

import io
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from gfpet.errors import GfpetError

GRACE_SECONDS = 5.0
PROGRESS_SECONDS = 10.0
_LAST_LINES = 30


class DvcError(GfpetError):
    """A `dvc` command failed."""


class StoppedError(DvcError):
    """The pipeline is stopping, so no process is started."""


@dataclass
class _Group:
    """The processes of one pipeline run."""

    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopping: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


# Prefect runs each task in a copy of the flow's context, so each task finds the group of its own flow run.
_group: ContextVar[_Group] = ContextVar("processes of this pipeline run")


@dataclass(frozen=True)
class Finished:
    """Exit status and output of an ended process: the last lines of both streams, and all lines of stdout."""

    returncode: int
    last_lines: tuple[str, ...]
    stdout: tuple[str, ...]


def dvc_command(*arguments: str) -> list[str]:
    """Command line of this environment's `dvc`, which waits while another process holds the repository's lock."""
    return [sys.executable, "-m", "dvc", "--wait-for-lock", *arguments]


def stage_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables of stage processes: this interpreter first on PATH, and unbuffered output."""
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment["PYTHONUNBUFFERED"] = "1"
    environment.update(extra or {})
    return environment


def stream(
    command: Sequence[str],
    *,
    root: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
) -> Finished:
    """Run `command` in `root`, and pass each line of its output to `on_line` at once.

    Passes one line of a progress bar (lines that end in a carriage return) every ten seconds. If this function ends
    early (a timeout, a cancelled run, Ctrl-C), it ends the process and all processes that it started.

    Raises:
        StoppedError: the pipeline is stopping.
    """
    group = _group.get(None) or _Group()
    with group.lock:
        if group.stopping:
            raise StoppedError("not started: the pipeline is being ended")
        process = _start(command, root, environment)
        group.running.add(process)
    lines: queue.Queue[tuple[str, str] | None] = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(process, name, lines), daemon=True, name=f"{name} of {process.pid}")
        for name in ("stdout", "stderr")
    ]
    for reader in readers:
        reader.start()
    stdout: list[str] = []
    last: deque[str] = deque(maxlen=_LAST_LINES)
    next_progress = 0.0
    open_streams = len(readers)
    try:
        while open_streams:
            # A short wait: a timeout or a cancellation reaches a thread only between two Python steps.
            try:
                item = lines.get(timeout=0.5)
            except queue.Empty:
                continue
            if item is None:
                open_streams -= 1
                continue
            source, raw = item
            line = raw.rstrip("\r\n")
            if not line.strip():
                continue
            if raw.endswith("\r"):
                if time.monotonic() < next_progress:
                    continue
                next_progress = time.monotonic() + PROGRESS_SECONDS
            else:
                last.append(line)
                if source == "stdout":
                    stdout.append(line)
            on_line(line)
        return Finished(process.wait(), tuple(last), tuple(stdout))
    finally:
        _end(process)
        for reader in readers:
            reader.join(timeout=GRACE_SECONDS)
        with group.lock:
            group.running.discard(process)


@contextmanager
def no_process_left() -> Iterator[None]:
    """If the body raises, end all processes that `stream` runs in threads of this context, and let it start no more.

    Ctrl-C and a cancelled flow run reach only the main thread. This passes them on to worker threads and to stages that
    wait for their turn.
    """
    group = _Group()
    token = _group.set(group)
    try:
        yield
    except BaseException:
        with group.lock:
            group.stopping = True
            processes = list(group.running)
        for process in processes:
            _end(process)
        raise
    finally:
        _group.reset(token)


def _start(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=root,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _read(process: subprocess.Popen[bytes], name: str, lines: queue.Queue[tuple[str, str] | None]) -> None:
    pipe = process.stdout if name == "stdout" else process.stderr
    if pipe is not None:
        # newline="" keeps the line ends, to tell a progress bar's carriage returns from newlines.
        with io.TextIOWrapper(pipe, encoding="utf-8", errors="replace", newline="") as text:
            for line in text:
                lines.put((name, line))
    lines.put(None)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Terminate the whole group, then kill it. It may outlive its leader: a killed `dvc` leaves its stage running."""
    if not _signal_group(process, signal.SIGTERM):
        return
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        process.poll()
        if not _signal_group(process, 0):
            return
        time.sleep(0.05)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the process group; False if no process is left."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
