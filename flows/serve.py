"""Serves the deployments of prefect.yaml from this process, without a work pool: `python -m flows.serve`.

Enough for one machine: while this process runs, it starts scheduled runs, one at a time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment

from flows.pipeline import pipeline
from tasks.schedules import watch_dead_runs
from tasks.workspace import find_root


def deployments(root: Path) -> list[RunnerDeployment]:
    """The deployments of the project's prefect.yaml."""
    entries = yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    return [_deployment(entry) for entry in entries]


def _deployment(entry: dict[str, Any]) -> RunnerDeployment:
    made: Any = pipeline.to_deployment(
        entry["name"],
        schedules=[CronSchedule(cron=each["cron"], timezone=each["timezone"]) for each in entry.get("schedules", [])],
        parameters=entry.get("parameters", {}),
        description=entry["description"],
        tags=entry["tags"],
        concurrency_limit=ConcurrencyLimitConfig(**entry["concurrency_limit"]),
    )
    return made  # type: ignore[no-any-return]


def main() -> None:
    """Serve until Ctrl-C. At the end Prefect pauses the schedules, so that no run is due while nothing serves it."""
    root = find_root(Path.cwd())
    watch_dead_runs()
    serve(*deployments(root), limit=1)


if __name__ == "__main__":
    main()
