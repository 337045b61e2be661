"""Share results: pull them from, or push them to, the DVC remote, together with DVC's cache of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from gfpet.errors import ConfigError
from tasks.process import DvcError, dvc_command, stage_environment, stream


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def pull_data(root: Path) -> None:
    """Take the results of `dvc.lock`, and the record of past runs, from the remote; what is not there is left out."""
    _move("pull", "--allow-missing", root=root)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def push_data(root: Path) -> None:
    """Give the results of `dvc.lock`, and of past runs, to the remote."""
    _move("push", root=root)


def check_remote(root: Path) -> None:
    """See that there is a remote to pull from or push to.

    Raises:
        ConfigError: none is configured, or none is the default.
    """
    from dvc.config import Config

    config = Config(str(root / ".dvc"))
    if not config["core"].get("remote"):
        known = ", ".join(sorted(config["remote"])) or "none"
        raise ConfigError(
            f"no default DVC remote (configured: {known}); "
            "name one: dvc remote add --default NAME URL, or dvc remote default NAME."
        )


def _move(direction: Literal["pull", "push"], *arguments: str, root: Path) -> None:
    check_remote(root)
    finished = stream(
        dvc_command(direction, "--run-cache", *arguments),
        root=root,
        environment=stage_environment(),
        on_line=get_run_logger().info,
    )
    if finished.returncode != 0:
        raise DvcError(f"`dvc {direction}` failed:\n" + "\n".join(finished.last_lines))
