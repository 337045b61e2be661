"""Clones of the project at a commit, each used by one run or stage at a time.

Clones are kept in `<home>/<commit>-<parameters>/<n>`. Runs with the same code and parameters share that folder; each
takes the first free clone. The next run resumes a killed one in its clone, which still has DVC's cache and the training
checkpoints.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.git import git

HOME_ENV = "GFPET_CLONES"
KEPT = 6
"""Number of folders `<commit>-<parameters>` to keep; older ones are removed when a clone is made."""


def clones_home() -> Path:
    """The folder of this machine's clones: `GFPET_CLONES`, or a folder in the user's cache."""
    given = os.environ.get(HOME_ENV)
    return Path(given) if given else Path.home() / ".cache" / "gfpet" / "clones"


@contextmanager
def claimed_clone(home: Path, source: str, commit: str, params: str, work: str | None = None) -> Iterator[Path]:
    """Reserve a clone until the body ends.

    Args:
        home: The folder of the clones.
        source: Address or folder to clone from.
        commit: Full id of the commit.
        params: Text of `params.yaml`, which may differ from the commit's.
        work: Folder below `.work/` to resume from; a free clone with it is preferred.

    Yields:
        The clone's folder.

    Raises:
        GitError: `source` cannot be cloned, or lacks the commit.
    """
    folder = home / f"{commit[:12]}-{hashlib.sha256(params.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    lock, clone = _first_free(folder, work)
    try:
        if not (clone / ".git").exists():
            _make(clone, source, commit)
            _remove_old(home, but=folder)
        os.utime(folder)
        (clone / "params.yaml").write_text(params, encoding="utf-8")
        yield clone
    finally:
        lock.release()


def _first_free(folder: Path, work: str | None) -> tuple[FileLock, Path]:
    present = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    if work:
        present.sort(key=lambda path: not (path / ".work" / work).is_dir())
    numbers = [int(path.name) for path in present]
    candidates = [*numbers, *(number for number in range(1000) if number not in numbers)]
    for number in candidates:
        lock = FileLock(folder / f"{number}.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue
        return lock, folder / str(number)
    raise AssertionError("a thousand clones of one commit are in use")


def _make(clone: Path, source: str, commit: str) -> None:
    half = clone.with_name(f"{clone.name}.half")
    for leftover in (half, clone):
        shutil.rmtree(leftover, ignore_errors=True)
    git(clone.parent, "clone", "--quiet", "--no-checkout", "--", source, str(half))
    if commit not in git(half, "rev-list", "--all").split():
        # A clone lacks commits that are on no branch (a detached head).
        git(half, "fetch", "--quiet", "origin", commit)
    git(half, "checkout", "--quiet", "--detach", commit)
    half.rename(clone)


def _remove_old(home: Path, but: Path) -> None:
    others = sorted(
        (path for path in home.iterdir() if path.is_dir() and path != but), key=lambda path: -path.stat().st_mtime
    )
    for folder in others[KEPT - 1 :]:
        held: list[FileLock] = []
        try:
            for file in folder.glob("*.lock"):
                lock = FileLock(file, timeout=0)
                lock.acquire()
                held.append(lock)
            shutil.rmtree(folder)
        except Timeout:
            pass  # in use
        finally:
            for lock in held:
                lock.release()
