"""Finds the project's folder, prepares it for DVC, and holds it for one run at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gfpet.errors import ConfigError


def find_root(start: Path) -> Path:
    """The project's folder: the nearest one at or above `start` that holds `dvc.yaml` and `params.yaml`.

    Raises:
        ConfigError: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise ConfigError(f"no dvc.yaml with a params.yaml at or above {start}; change into the project's folder.")


@contextmanager
def one_run(root: Path) -> Iterator[None]:
    """Hold the project's folder for one run: a second one would change params.yaml, or results, under the first.

    The lock is the operating system's and ends with the process, however that ends.

    Raises:
        ConfigError: another run holds the folder; names its process.
    """
    folder = root / ".work"
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / "run.lock", timeout=0), folder / "run.pid"
    try:
        lock.acquire()
    except Timeout:
        process = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "unknown"
        raise ConfigError(
            f"another run works in {root} (process {process}), and two at once would mix their parameters and results. "
            "Wait for it or end it, or run in a clone of the project."
        ) from None
    try:
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        lock.release()


def allow_missing_git(root: Path) -> bool:
    """Let DVC work in a folder without Git, such as an unpacked archive.

    DVC refuses to start without Git unless `core.no_scm` is set. This sets it in `.dvc/config.local`, which is not
    committed, and removes it once `.git` exists.

    Returns:
        Whether the setting was changed.
    """
    from dvc.config import Config

    without_git = not (root / ".git").exists()
    config = Config(str(root / ".dvc"))
    if bool(config.load_one("local").get("core", {}).get("no_scm", False)) == without_git:
        return False
    with config.edit("local") as local:
        core = local.setdefault("core", {})
        if without_git:
            core["no_scm"] = True
        else:
            core.pop("no_scm", None)
    return True
