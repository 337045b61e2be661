"""Share results: pull them from, or push them to, the DVC remote, together with DVC's cache of runs."""

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
    """Take the results of `dvc.lock`, and the record of past runs, from the remote; what is not there is left out."""
    _move("pull", "--allow-missing", root=root)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def push_data(root: Path) -> None:
    """Give the results of `dvc.lock`, and of past runs, to the remote."""
    _move("push", root=root)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def pull_stages(root: Path, names: Sequence[str]) -> None:
    """Take the results of single stages from the remote."""
    if names:
        _run(root, "pull", *names)


@task(cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=[5, 30])
def push_stages(root: Path, names: Sequence[str]) -> None:
    """Give the results of single stages to the remote."""
    if names:
        _run(root, "push", *names)


def has_remote(root: Path) -> bool:
    """Whether a default DVC remote is configured."""
    from dvc.config import Config

    return bool(Config(str(root / ".dvc"))["core"].get("remote"))


def check_remote(root: Path) -> None:
    """See that there is a remote to pull from or push to.

    Raises:
        ConfigError: none is configured, or none is the default.
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
    """See that what is pushed can be traced to a commit.

    Args:
        root: The project.
        allow_dirty: Don't ask. The runs in MLflow then carry the tag `gfpet.git.dirty: True`.

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
