"""Shares results: pulls them from and pushes them to the DVC remote, together with DVC's run cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from gfpet.errors import ConfigError
from tasks.git import require_clean
from tasks.process import DvcError, dvc_command, stage_environment, stream


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def pull_data(root: Path) -> None:
    """Pull the results of `dvc.lock` and the run cache from the remote; results that it lacks are skipped."""
    _move("pull", "--allow-missing", root=root)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def push_data(root: Path) -> None:
    """Push the results of `dvc.lock` and the run cache to the remote."""
    _move("push", root=root)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def pull_stages(root: Path, names: Sequence[str]) -> None:
    """Pull the results of single stages from the remote."""
    if names:
        _run(root, "pull", *names)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def push_stages(root: Path, names: Sequence[str]) -> None:
    """Push the results of single stages to the remote."""
    if names:
        _run(root, "push", *names)


def has_remote(root: Path) -> bool:
    """Whether a default DVC remote is configured."""
    from dvc.config import Config

    return bool(Config(str(root / ".dvc"))["core"].get("remote"))


def check_remote(root: Path) -> None:
    """Check that a default remote is configured.

    Raises:
        ConfigError: there is no remote, or none is the default.
    """
    from dvc.config import Config

    if not has_remote(root):
        config = Config(str(root / ".dvc"))
        known = ", ".join(sorted(config["remote"])) or "none"
        raise ConfigError(
            f"no default DVC remote (configured: {known}); "
            "name one: dvc remote add --default NAME URL, or dvc remote default NAME."
        )


def check_push(root: Path, allow_dirty: bool = False) -> None:
    """Check that pushed results can be traced to a commit.

    Args:
        root: The project.
        allow_dirty: Skip the check. The runs in MLflow then carry the tag `gfpet.git.dirty: True`.

    Raises:
        GitError: the working tree differs from its commit.
    """
    if not allow_dirty:
        require_clean(root, "what is pushed must be what a commit makes", hint=", or say --allow-dirty")


def _move(direction: Literal["pull", "push"], *arguments: str, root: Path) -> None:
    check_remote(root)
    _run(root, direction, "--run-cache", *arguments)


def _run(root: Path, direction: Literal["pull", "push"], *arguments: str) -> None:
    finished = stream(
        dvc_command(direction, *arguments),
        root=root,
        environment=stage_environment(),
        on_line=get_run_logger().info,
    )
    if finished.returncode != 0:
        raise DvcError(f"`dvc {direction}` failed:\n" + "\n".join(finished.last_lines))
