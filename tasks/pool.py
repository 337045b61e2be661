"""Runs stages on the workers of a Prefect work pool, each as one run of the deployment `stage/POOL`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from gfpet.errors import ConfigError
from tasks.lockfile import LockEntry
from tasks.process import DvcError
from tasks.remote_stage import RemoteStageResult, StageRequest

REMOTE_RESULT = "remote-result"
"""Key of the artifact with a worker's result. (Prefect keeps a flow run's own result on the machine that made it.)"""


class WorkerLostError(DvcError):
    """A worker or its machine was lost while it ran a stage."""


class WorkerError(DvcError):
    """A stage failed on a worker."""


def pool_deployment(pool: str) -> str:
    """Name of the deployment that the workers of a pool take stages from."""
    return f"stage/{pool}"


def lost(_task: Any, _task_run: Any, state: Any) -> bool:
    """Prefect's retry condition: the worker was lost, so that another may take the stage."""
    return isinstance(state.result(raise_on_failure=False), WorkerLostError)


@task(
    task_run_name="{request.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=lost,
)
def run_on_pool(
    request: StageRequest, known: Mapping[str, LockEntry], needs: Mapping[str, RemoteStageResult], pool: str
) -> RemoteStageResult:
    """Run a stage on a worker of the pool, and wait for its result.

    Args:
        request: The stage and its code.
        known: Entries of `dvc.lock` of stages that don't run now.
        needs: Results of the stages that it depends on.
        pool: The work pool.

    Raises:
        WorkerError: the stage failed there.
        WorkerLostError: the worker was lost each time.
    """
    name = request.name
    entries = {**known, **{need: remote_result.entry for need, remote_result in needs.items()}}
    parameters = {"name": name, "request": request.model_dump(), "known": entries}
    run: Any = run_deployment(pool_deployment(pool), parameters=parameters, flow_run_name=name, poll_interval=1)
    state = run.state
    if state is not None and state.is_completed():
        return read_remote_result(run.id)
    text = (state.message if state else None) or "no reason is known"
    if state is not None and state.is_crashed():
        raise WorkerLostError(f"stage '{name}' was lost with its worker: {text}")
    raise WorkerError(f"stage '{name}' ended as {state.name if state else 'unknown'} on a worker of '{pool}': {text}")


def read_remote_result(flow_run_id: UUID) -> RemoteStageResult:
    """The result of a run of the deployment.

    Raises:
        WorkerError: it has none.
    """
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[REMOTE_RESULT])),
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        )
    if not found:
        raise WorkerError(f"flow run {flow_run_id} ended well without an artifact '{REMOTE_RESULT}'")
    data: Any = found[0].data
    rows = json.loads(data) if isinstance(data, str) else data
    return RemoteStageResult.from_json(rows[0])


def require_workers(pool: str) -> None:
    """Check that a pool has workers that are online.

    Raises:
        ConfigError: there is no such pool, or it has no worker online.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(pool)
            workers = client.read_workers_for_work_pool(pool)
            client.read_deployment_by_name(pool_deployment(pool))
        except ObjectNotFound:
            known = ", ".join(sorted(each.name for each in client.read_work_pools())) or "none"
            raise ConfigError(
                f"no work pool '{pool}' that takes stages (pools: {known}); a worker makes it: gfpet worker {pool}."
            ) from None
    if not any(str(worker.status) in ("ONLINE", "WorkerStatus.ONLINE") for worker in workers):
        raise ConfigError(f"nobody works on pool '{pool}'; start a worker on each machine: gfpet worker {pool}.")
