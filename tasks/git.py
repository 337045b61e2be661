"""The state of the project's Git repository: its commit, and the files that differ from it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

from gfpet.errors import GfpetError
from gfpet.secrets import without_credentials, without_secrets

CODE = ("gfpet", "tasks", "flows", "presets", "task_files")
"""Folders in which an untracked file counts as a change, since stages depend on the whole folder."""

WRITTEN_BY_RUNS = "dvc.lock"


class GitError(GfpetError):
    """The project's Git repository is not suitable for a shared run."""


def git(root: Path, *arguments: str) -> str:
    """Run a `git` command and return its output.

    Raises:
        GitError: it failed, or Git is not installed.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        raise GitError("git is not installed; a run that is shared is one of a commit: install it.") from None
    if done.returncode != 0:
        raise GitError(without_secrets(f"`git {' '.join(arguments)}` failed in {root}: {done.stderr.strip()}"))
    return done.stdout.rstrip("\n")


def require_repository(root: Path) -> None:
    """Check that `root` is a Git repository with a commit.

    Raises:
        GitError: it is not.
    """
    if not (root / ".git").exists():
        raise GitError(
            f"{root} is no Git repository; what is shared must say which code made it. Clone the project, or make a "
            "repository of it: git init && git add -A && git commit -m start."
        )
    git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")


def changed_files(root: Path, but: Collection[str] = ()) -> list[str]:
    """Files that differ from the commit, and untracked ones in `CODE`. Leaves out `dvc.lock`, which runs write.

    Args:
        root: The repository.
        but: Further files to leave out.
    """
    found: list[str] = []
    # Untracked files of other folders (notes, data) cannot change a result.
    for options in (["--untracked-files=no", "--", "."], ["--untracked-files=all", "--", *CODE]):
        for line in git(root, "status", "--porcelain", "-z", "--no-renames", *options).split("\0"):
            if line and line[3:] not in found:
                found.append(line[3:])
    return [name for name in found if name not in {*but, WRITTEN_BY_RUNS}]


def require_clean(root: Path, why: str, but: Collection[str] = (), hint: str = "") -> None:
    """Check that the working tree equals its commit, so that its results are those of the commit.

    Raises:
        GitError: files differ, or `root` is no repository.
    """
    require_repository(root)
    changed = changed_files(root, but)
    if changed:
        shown = ", ".join(changed[:8]) + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise GitError(f"the working tree differs from its commit ({shown}), and {why}. Commit the changes{hint}.")


def head(root: Path, revision: str = "HEAD") -> str:
    """The full id of a revision's commit.

    Raises:
        GitError: there is no such revision.
    """
    require_repository(root)
    return git(root, "rev-parse", "--verify", f"{revision}^{{commit}}")


def reachable_source(root: Path, commit: str) -> str:
    """Where another clone can fetch `commit`: `origin` if one of its branches has it, otherwise this folder.

    The folder serves workers on the same machine only. The address has no credentials: each machine has its own.
    """
    if "origin" in git(root, "remote").split() and git(root, "branch", "--remotes", "--contains", commit).strip():
        return without_credentials(git(root, "remote", "get-url", "origin"))
    return str(root.resolve())
