"""The pipeline as a Prefect flow. `dvc.yaml` is the graph, DVC decides what runs, Prefect runs stages in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from gfpet.config import load_params
from gfpet.errors import GfpetError
from gfpet.tracking import shown_uri
from tasks.dvc_stage import StageResult, read_graph, reproduce_stage, stale_stages
from tasks.present import present_results
from tasks.process import no_process_left
from tasks.publish import parent_environment, pipeline_run, publish_results
from tasks.remote import check_push, check_remote, pull_data, push_data
from tasks.workspace import allow_missing_git

R = TypeVar("R")

WORKERS = 2
"""Stages in parallel. Each uses `models.threads` CPU threads."""


class PipelineError(GfpetError):
    """Stages failed. The message names them, the stages that could therefore not run, and how to go on."""


@flow(name="reproduce", task_runner=ThreadPoolTaskRunner(max_workers=WORKERS), persist_result=False)  # type: ignore[arg-type]
def reproduce(
    root: Path, targets: Sequence[str] = (), pull: bool = False, push: bool = False, allow_dirty: bool = False
) -> dict[str, StageResult]:
    """Bring the targets, or all stages, up to date.

    A failed stage stops only those that depend on it. Finished results are kept, so that a second run resumes there.

    Args:
        root: Folder with `dvc.yaml` and `params.yaml`.
        targets: Stages, as for `dvc repro`: `report`, `tune@gpt2-cb`, or `tune` for all of them.
        pull: Take results from the DVC remote, if others have pushed them, instead of making them.
        push: Push the results to the DVC remote.
        allow_dirty: Push even if the working tree differs from its commit; a tag of MLflow's runs then says so.

    Returns:
        Outcome of each stage, by name; empty if everything was up to date.

    Raises:
        ConfigError: `params.yaml`, a target or the remote is invalid.
        GitError: `push` without `allow_dirty`, and the working tree differs from its commit.
        PipelineError: stages failed.
    """
    with no_process_left():
        params = load_params(root / "params.yaml")
        allow_missing_git(root)
        if pull or push:
            check_remote(root)
        if push:
            check_push(root, allow_dirty)
        if pull:
            pull_data(root)
        graph = read_graph(root, targets)
        results: dict[str, StageResult] = {}
        if stale_stages(root, graph):
            identity, name = str(flow_run.id), f"gfpet run {flow_run.name}"
            with pipeline_run(root, params, identity, name) as parents:
                stages: dict[str, PrefectFuture[StageResult]] = {}
                for stage, needs in graph.items():
                    stages[stage] = reproduce_stage.submit(
                        stage,
                        root,
                        parent_environment(parents),
                        pull=pull,
                        wait_for=[stages[need] for need in needs],
                        return_state=False,
                    )
                results = wait_all(stages)
                publish_results(root, parents)
                raise_failures(stages, results)
        else:
            publish_results(root)
        present_results(root, {"reports": str(root / "reports"), "MLflow": shown_uri(root)})
        if push:
            push_data(root)
        return results


def wait_all(stages: Mapping[str, PrefectFuture[R]]) -> dict[str, R]:
    """Wait for all stages; return the results of those that succeeded."""
    for future in stages.values():
        future.wait()
    return {name: future.result() for name, future in stages.items() if future.state.is_completed()}


def raise_failures(stages: Mapping[str, PrefectFuture[R]], results: Mapping[str, StageResult]) -> None:
    """Raise an error for failed stages, and name those that could not run.

    Raises:
        PipelineError: stages failed.
    """
    failed = {
        name: future.result(raise_on_failure=False)
        for name, future in stages.items()
        if future.state.is_failed() or future.state.is_crashed()
    }
    if not failed:
        return
    waiting = [name for name in stages if name not in results and name not in failed]
    lines = [str(error) for error in failed.values()]
    if waiting:
        lines.append(f"not run, since they need what failed: {', '.join(waiting)}.")
    lines.append(
        f"{len(results)} of {len(stages)} stages are done and kept; repair what is named above and give the same "
        "command again: it goes on from there."
    )
    raise PipelineError("\n".join(lines))
