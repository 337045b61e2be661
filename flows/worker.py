"""A worker: takes scheduled runs, or single stages of other runs, from a work pool; each runs in its own clone."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import EntrypointType  # type: ignore[attr-defined]
from prefect.exceptions import ObjectAlreadyExists

from flows.distributed import take_stage
from tasks.clone import HOME_ENV, clones_home
from tasks.schedules import POOL, watch_dead_runs

HEARTBEAT_SECONDS = 30
"""Interval between heartbeats of a flow run; Prefect's minimum."""


def prepare_pool(pool: str, type_: str = "process", limit: int | None = None) -> None:
    """Create a work pool if it is missing, and let the server detect dead runs."""
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=pool, type=type_, concurrency_limit=limit))
    watch_dead_runs()


def register(pool: str) -> None:
    """Create the pool and its deployment of the flow `stage`.

    The entry point is a module, so that each worker loads it from its own installation.
    """
    prepare_pool(pool)
    deployment: Any = take_stage.to_deployment(
        pool,
        work_pool_name=pool,
        entrypoint_type=EntrypointType.MODULE_PATH,
        description="One stage of the pipeline, in a clone at the run's commit.",
        tags=["gfpet-stage"],
    )
    deployment.apply()


def work(pool: str, name: str | None, limit: int) -> None:
    """Become a worker of the pool, until Ctrl-C. Replaces this process.

    Args:
        pool: The work pool. `gfpet` is for scheduled runs, one at a time over all its workers; any other for stages.
        name: Name shown in Prefect; by default Prefect generates one.
        limit: Runs or stages of this worker at a time.
    """
    if pool == POOL:
        prepare_pool(pool, limit=1)
    else:
        register(pool)
    clones_home().mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(HOME_ENV, str(clones_home()))
    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
    command += ["--limit", str(limit), *(["--name", name] if name else [])]
    sys.stdout.flush()
    os.execv(sys.executable, command)
