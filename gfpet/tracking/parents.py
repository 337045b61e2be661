"""The parent runs of a pipeline run: one for each family, with the runs of its stages as children."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gfpet.config import Params
from gfpet.tracking.describe import headline_metrics, run_params, run_tags
from gfpet.tracking.store import Store, short_error

if TYPE_CHECKING:
    import psutil

PARENT_ENV = "GFPET_PARENT_RUN"
"""Environment variable with the parents of a pipeline run, `<family>=<run id>,...`, set by the program that starts the
stages. DVC does not hash the environment, so it changes no stage key."""

PIPELINE_TAG = "gfpet.pipeline"


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parent_environment(parents: Mapping[str, str | None]) -> dict[str, str]:
    """Environment variables that tell stages their parent runs."""
    return {PARENT_ENV: ",".join(f"{family}={run}" for family, run in parents.items() if run)}


def given_parent(family: str) -> str | None:
    """The parent run that the environment names for a family, if any."""
    text = os.environ.get(PARENT_ENV, "").strip()
    if text.startswith("{"):
        return json.loads(text).get(family) or None
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name.strip(): run.strip() for name, _, run in pairs}.get(family) or None


def dvc_process() -> psutil.Process | None:
    """The `dvc` process among this process's ancestors, if any."""
    import psutil

    for process in psutil.Process().parents():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(Path(part).name in {"dvc", "dvc.exe"} for part in command[:2]) or command[1:3] == ["-m", "dvc"]:
            return process
    return None


def shared_parent(store: Store, root: Path, experiment: str, family: str, params: Params) -> str | None:
    """Under a bare `dvc repro`: find or create the parent run that all its stages share. None without `dvc`.

    The run is identified by host, process id and start time of `dvc`.
    """
    process = dvc_process()
    if process is None:
        return None
    identity = f"{socket.gethostname()}-{process.pid}-{int(process.create_time())}"
    with store.lock:
        found = store.find(experiment, PIPELINE_TAG, identity)
        return (
            found.info.run_id
            if found
            else create_parent(store, root, experiment, family, params, identity, "dvc repro")
        )


def open_parent(
    root: Path, family: str, params: Params, identity: str, name: str, tell: Callable[[str], None] = to_stderr
) -> str | None:
    """Start a parent run of a pipeline run.

    Args:
        root: the project's folder.
        family: a configured family, or `pipeline` for the stages that have none.
        params: the checked parameters.
        identity: the same for all parents of one pipeline run, e.g. the flow run's id.
        name: shown in MLflow.
        tell: receives one line if tracking is down.

    Returns:
        The run's id, or None if tracking is down; the pipeline then runs without it.
    """
    try:
        store = Store(root)
        return create_parent(store, root, store.experiment(family), family, params, identity, name)
    except Exception as error:
        tell(f"MLflow is out of reach, the run goes on without: {short_error(error)}")
        return None


def close_parent(
    root: Path,
    family: str,
    run_id: str | None,
    status: str,
    reports: Path | None = None,
    tell: Callable[[str], None] = to_stderr,
) -> None:
    """End a parent run.

    Args:
        root: the project's folder.
        family: the run's family; only its rows of the report are logged.
        run_id: from `open_parent`; None does nothing.
        status: `FINISHED`, `FAILED` or `KILLED`.
        reports: folder with `results.json` and figures to log; None if there are none.
        tell: receives a line for everything that could not be logged.
    """
    if run_id is None:
        return
    try:
        store = Store(root)
        if reports is not None and reports.is_dir():
            results = reports / "results.json"
            if results.exists():
                rows = json.loads(results.read_text(encoding="utf-8"))
                chosen = [row for row in rows if row["family"] == family]
                store.log_points(run_id, [(key, value, 0) for key, value in headline_metrics(chosen).items()])
            for file in store.log_files(run_id, reports):
                tell(f"MLflow: {file} is left out of the pipeline's run (too large)")
        store.client.set_terminated(run_id, status)
    except Exception as error:
        tell(f"MLflow is out of reach, the pipeline's run {run_id} stays open: {short_error(error)}")


def create_parent(
    store: Store, root: Path, experiment: str, family: str, params: Params, identity: str, name: str
) -> str:
    """Create a parent run and return its id. Raises what the store raises."""
    tags = {**run_tags(root, family, params), PIPELINE_TAG: identity}
    run = store.client.create_run(experiment, tags=tags, run_name=name)
    store.log_params(run, run_params(params))
    return str(run.info.run_id)
