"""Workers of Prefect pools as subprocesses with their own homes, and functions that wait for them."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.services.process import start, stop
from tests.team.project import PROJECT


@contextlib.contextmanager
def workers(folder: Path, pool: str, *names: str, cwd: Path | None = None, **environment: str) -> Iterator[None]:
    """Workers of a pool, each with its own home for clones, as on separate machines."""
    folder.mkdir()
    for name in names:
        own = {"GFPET_CLONES": str(folder / name), "PREFECT_HOME": str(folder / f"prefect-{name}")}
        quick = {"PREFECT_WORKER_QUERY_SECONDS": "0.5", "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "flows", "worker", pool, "--name", name]
        start(name, command, folder, {**os.environ, **own, **quick, **environment}, cwd)
    try:
        yield
    finally:
        for name in names:
            stop(name, folder)


def wait_for_workers(pool: str, count: int) -> None:
    """Wait until `count` workers of a pool have registered with the server."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    def come() -> bool:
        with get_client(sync_client=True) as client, contextlib.suppress(PrefectHTTPStatusError):
            return len(client.read_workers_for_work_pool(pool)) >= count
        return False

    wait(f"{count} workers of {pool} come", come)


def wait(what: str, done: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until `done` returns true; fail after a generous time limit."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.2)
