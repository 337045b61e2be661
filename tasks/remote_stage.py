"""A remote stage: any machine runs it in its own clone: pulls its inputs, reproduces it, pushes its result."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from pydantic import BaseModel, ConfigDict

from tasks.clone import claimed_clone, clones_home
from tasks.dvc_stage import Outcome, StageResult, retry_can_help, run_stage
from tasks.lockfile import LockEntry, merge_lock, read_lock
from tasks.process import DvcError, dvc_command, stage_environment, stream


class StageRequest(BaseModel):
    """What a worker needs to run a stage. No passwords: Prefect stores the parameters of runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """Name of the stage, as in `dvc.yaml`."""
    source: str
    """Address or folder to clone the code from."""
    commit: str
    params: str
    """Text of `params.yaml`."""
    environment: dict[str, str] = {}
    """Environment variables for the stage's process."""


@dataclass(frozen=True)
class RemoteStageResult:
    """A remote stage's result: its entry of `dvc.lock`. The data are in the DVC remote."""

    result: StageResult
    entry: LockEntry
    worker: str
    """Machine, process and clone that ran it."""

    def as_json(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return {**vars(self.result), "entry": dict(self.entry), "worker": self.worker}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RemoteStageResult:
        """Read the values of `as_json`."""
        result = StageResult(values["name"], values["outcome"], values["seconds"])
        return cls(result, values["entry"], values["worker"])


def run_remote_stage(
    request: StageRequest, known: Mapping[str, LockEntry], home: Path | None = None
) -> RemoteStageResult:
    """Bring a stage up to date in a clone, and push its result to the remote.

    If two machines take the same stage, both run it, or the later one finds the result in the run cache. Either way the
    remote has each file once, under its hash, and the caller gets one entry.

    Args:
        request: The stage and its code.
        known: Entries of `dvc.lock` of the stages that it depends on, and its own if there is one.
        home: The folder of this machine's clones.

    Raises:
        StageError: the stage failed.
        DvcError: its inputs are not in the remote, or its result cannot be pushed.
        GitError: the commit cannot be cloned.
    """
    started = time.monotonic()
    where = request.name.replace("@", "/", 1).replace("-", "/")
    with claimed_clone(home or clones_home(), request.source, request.commit, request.params, where) as root:
        merge_lock(root, known)
        if known:
            _dvc(root, "pull", *known)
        outcome: Outcome = run_stage(request.name, root, request.environment, pull=True)
        _dvc(root, "push", "--run-cache", request.name)
        entry = read_lock(root)[request.name]
        seconds = round(time.monotonic() - started, 2)
        worker = f"{socket.gethostname()} {os.getpid()} {root}"
    return RemoteStageResult(StageResult(request.name, outcome, seconds), entry, worker)


@task(
    task_run_name="{request.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=retry_can_help,
)
def remote_stage(
    request: StageRequest, known: Mapping[str, LockEntry], needs: Mapping[str, RemoteStageResult]
) -> RemoteStageResult:
    """`run_remote_stage` as a task, for a task runner that uses other machines (Dask).

    Args:
        request: The stage and its code.
        known: Entries of `dvc.lock` of stages that don't run now.
        needs: Results of the stages that it depends on.
    """
    return run_remote_stage(request, {**known, **{need: remote_result.entry for need, remote_result in needs.items()}})


def _dvc(root: Path, *arguments: str) -> None:
    logger = get_run_logger()
    finished = stream(dvc_command(*arguments), root=root, environment=stage_environment(), on_line=logger.info)
    if finished.returncode != 0:
        raise DvcError(f"`dvc {arguments[0]}` failed in {root}:\n" + "\n".join(finished.last_lines))
