"""One stage in a clone of its own, on whichever machine takes it: pull its inputs, reproduce it, push its result."""

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
    """What a worker has to know. No passwords: Prefect keeps the parameters of runs; each machine has its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """As in `dvc.yaml`."""
    source: str
    """Where the code can be cloned from."""
    commit: str
    params: str
    """Text of `params.yaml`."""
    environment: dict[str, str] = {}
    """For the stage's process."""


@dataclass(frozen=True)
class RemoteStageResult:
    """A stage's result: its entry of `dvc.lock`. The data are in the DVC remote."""

    result: StageResult
    entry: LockEntry
    worker: str
    """Machine, process and clone that did it."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self.result), "entry": dict(self.entry), "worker": self.worker}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RemoteStageResult:
        """From `as_json`."""
        result = StageResult(values["name"], values["outcome"], values["seconds"])
        return cls(result, values["entry"], values["worker"])


def run_remote_stage(
    request: StageRequest, known: Mapping[str, LockEntry], home: Path | None = None
) -> RemoteStageResult:
    """Make a stage's result in a clone, or find it there or in the remote, and see that the remote has it.

    Two machines that take the same stage both do it, or the later one finds the other's result in the record of runs;
    either way the remote holds each file once, under its hash, and the caller gets one entry.

    Args:
        request: Which stage of which code.
        known: Entries of `dvc.lock`: of the stages that it depends on, and its own, if there is one.
        home: Where this machine keeps its clones.

    Raises:
        StageError: the stage ended with an error.
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
    """`deliver` as a task, for a runner that computes on other machines (Dask).

    Args:
        request: Which stage of which code.
        known: Entries of stages that don't run now.
        needs: What the stages that it depends on have delivered.
    """
    return run_remote_stage(request, {**known, **{need: remote_result.entry for need, remote_result in needs.items()}})


def _dvc(root: Path, *arguments: str) -> None:
    logger = get_run_logger()
    finished = stream(dvc_command(*arguments), root=root, environment=stage_environment(), on_line=logger.info)
    if finished.returncode != 0:
        raise DvcError(f"`dvc {arguments[0]}` failed in {root}:\n" + "\n".join(finished.last_lines))
