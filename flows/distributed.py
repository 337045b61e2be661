"""The pipeline over several machines: any worker runs a stage, in a clone of the run's commit.

The workers belong to a Prefect work pool (each stage is a run of the deployment `stage/POOL`) or to a Dask cluster (the
task runner of `run_distributed`). Both use `tasks.remote_stage`. The data go through the DVC remote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.reproduce import raise_failures, wait_all
from gfpet.config import load_params
from gfpet.tracking import shown_uri
from gfpet.tracking.store import PROJECT_ENV
from tasks.dvc_stage import StageResult, read_graph, stale_stages
from tasks.git import head, reachable_source, require_clean
from tasks.lockfile import merge_lock, read_lock
from tasks.pool import REMOTE_RESULT, require_workers, run_on_pool
from tasks.present import present_results
from tasks.process import no_process_left
from tasks.publish import parent_environment, pipeline_run, publish_results
from tasks.remote import check_push, check_remote, pull_stages, push_stages
from tasks.remote_stage import RemoteStageResult, StageRequest, remote_stage, run_remote_stage

STAGES_AT_ONCE = 64
"""Stages that may be submitted to a pool at a time; the workers decide how many run."""


@flow(name="run_distributed", task_runner=ThreadPoolTaskRunner(max_workers=STAGES_AT_ONCE), persist_result=False)  # type: ignore[arg-type]
def run_distributed(
    root: Path, targets: Sequence[str] = (), pool: str | None = None, allow_dirty: bool = False
) -> dict[str, StageResult]:
    """Bring the targets, or all stages, up to date on other machines.

    Args:
        root: Folder with `dvc.yaml` and `params.yaml`; a clone whose commit the workers can fetch.
        targets: Stages, as for `dvc repro`.
        pool: Work pool whose workers run the stages; without one, this flow's task runner (Dask) does.
        allow_dirty: Use this folder's parameters even if they differ from the commit's. Code must be committed.

    Returns:
        Outcome of each stage that was not up to date, by name.

    Raises:
        ConfigError: `params.yaml`, a target, the remote or the pool is invalid.
        GitError: the code differs from the commit.
        PipelineError: stages failed.
    """
    with no_process_left():
        params = load_params(root / "params.yaml")
        require_clean(root, "workers clone the commit", but=("params.yaml",))
        check_push(root, allow_dirty)
        check_remote(root)
        if pool:
            require_workers(pool)
        graph = read_graph(root, targets)
        known = read_lock(root)
        to_do = _to_do(graph, stale_stages(root, graph))
        results: dict[str, StageResult] = {}
        if to_do:
            push_stages(root, [name for name in graph if name not in to_do])
            identity, name = str(flow_run.id), f"gfpet run {flow_run.name}"
            with pipeline_run(root, params, identity, name) as parents:
                request = _request(root, parent_environment(parents))
                futures: dict[str, PrefectFuture[RemoteStageResult]] = {}
                for stage, needs in to_do.items():
                    entries = {each: known[each] for each in (stage, *needs) if each in known}
                    given: Any = {need: futures[need] for need in needs if need in futures}
                    one = request.model_copy(update={"name": stage})
                    futures[stage] = (
                        run_on_pool.submit(one, entries, given, pool)
                        if pool
                        else remote_stage.submit(one, entries, given)
                    )
                remote_results = wait_all(futures)
                merge_lock(root, {name: remote_result.entry for name, remote_result in remote_results.items()})
                pull_stages(root, list(remote_results))
                results = {name: remote_result.result for name, remote_result in remote_results.items()}
                publish_results(root, parents)
                raise_failures(futures, results)
        else:
            publish_results(root)
        present_results(root, {"reports": str(root / "reports"), "MLflow": shown_uri(root)})
        return results


@flow(name="stage", flow_run_name="{name}", persist_result=False)
def take_stage(name: str, request: StageRequest, known: dict[str, dict[str, Any]]) -> None:
    """Run one stage on a pool's worker; the result is an artifact of the flow run.

    Args:
        name: Name of the stage, as in `dvc.yaml`.
        request: The code and parameters.
        known: Entries of `dvc.lock` of the stages that it depends on.
    """
    with no_process_left():
        remote_result = run_remote_stage(request.model_copy(update={"name": name}), known)
        create_table_artifact([remote_result.as_json()], key=REMOTE_RESULT, description=f"{name}: entry of dvc.lock")


def _to_do(graph: Mapping[str, Sequence[str]], stale: set[str]) -> dict[str, Sequence[str]]:
    """The stale stages and those that depend on them, each with its dependencies."""
    chosen: dict[str, Sequence[str]] = {}
    for name, needs in graph.items():  # in topological order
        if name in stale or any(need in chosen for need in needs):
            chosen[name] = needs
    return chosen


def _request(root: Path, environment: Mapping[str, str]) -> StageRequest:
    commit = head(root)
    source = reachable_source(root, commit)
    extra = dict(environment)
    if source == str(root.resolve()):
        # The workers are on this machine: without an MLflow server, they log to this project's store.
        extra[PROJECT_ENV] = source
    text = (root / "params.yaml").read_text(encoding="utf-8")
    return StageRequest(name="", source=source, commit=commit, params=text, environment=extra)
