"""Logs a pipeline run to MLflow: a parent run for each family, and results from the cache or a remote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from gfpet.config import Params
from gfpet.tracking import close_parent, open_parent, parent_environment, publish_all

WITHOUT_FAMILY = "pipeline"
"""The family that tracking uses for stages without one."""


@contextmanager
def pipeline_run(root: Path, params: Params, identity: str, name: str) -> Iterator[dict[str, str | None]]:
    """Open one MLflow parent run per family, and close them as finished, failed or killed when the body ends.

    Args:
        root: Folder with `dvc.yaml`.
        params: The checked parameters.
        identity: The same for all parents of this pipeline run.
        name: Shown in MLflow.

    Yields:
        The run's id by family; None if tracking is down, which does not stop the pipeline.
    """
    tell = get_run_logger().warning
    families = (*params.families, WITHOUT_FAMILY)
    parents = {family: open_parent(root, family, params, identity, name, tell) for family in families}
    status = "KILLED"
    try:
        yield parents
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        reports = root / "reports" if status == "FINISHED" else None
        for family, run_id in parents.items():
            close_parent(root, family, run_id, status, reports, tell)


@task(cache_policy=NO_CACHE, persist_result=False)
def publish_results(root: Path, parents: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Log every result of `dvc.lock` that MLflow lacks; each result has one run only.

    Returns:
        `published`, `completed`, `present`, `absent` or `down`, by stage.
    """
    logger = get_run_logger()
    outcomes: dict[str, str] = {**publish_all(root, parents, logger.warning)}
    counts = {outcome: list(outcomes.values()).count(outcome) for outcome in sorted(set(outcomes.values()))}
    logger.info("MLflow: %s", ", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing")
    return outcomes


__all__ = ["parent_environment", "pipeline_run", "publish_results"]
