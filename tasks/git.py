"""What of the project's Git repository the pipeline needs to know: the commit, and what differs from it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

from gfpet.errors import GfpetError
from gfpet.secrets import without_credentials, without_secrets

CODE = ("gfpet", "tasks", "flows", "presets", "task_files")
"""Folders in which a new file counts as a change: stages depend on them as a whole."""

WRITTEN_BY_RUNS = "dvc.lock"


class GitError(GfpetError):
    """The project's Git repository is not as a shared run needs it."""


def git(root: Path, *arguments: str) -> str:
    """What a `git` command answers.

    Raises:
        GitError: it failed, or there is no Git.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=300)
    except FileNotFoundError:
        raise GitError("git is not installed; a run that is shared is one of a commit: install it.") from None
    if done.returncode != 0:
        raise GitError(without_secrets(f"`git {' '.join(arguments)}` failed in {root}: {done.stderr.strip()}"))
    return done.stdout.rstrip("\n")


def require_repository(root: Path) -> None:
    """See that `root` is a Git repository with a commit.

    Raises:
        GitError: it is none.
    """
    if not (root / ".git").exists():
        raise GitError(
            f"{root} is no Git repository; what is shared must say which code made it. Clone the project, or make a "
            "repository of it: git init && git add -A && git commit -m start."
        )
    git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")


def changed_files(root: Path, but: Collection[str] = ()) -> list[str]:
    """Files that differ from the commit, and new ones in the folders of the code; without `dvc.lock`, which runs write.

    Args:
        root: The repository.
        but: Files that don't count.
    """
    found: list[str] = []
    # Untracked files of other folders (notes, data) cannot change a result.
    for options in (["--untracked-files=no", "--", "."], ["--untracked-files=all", "--", *CODE]):
        for line in git(root, "status", "--porcelain", "-z", "--no-renames", *options).split("\0"):
            if line and line[3:] not in found:
                found.append(line[3:])
    return [name for name in found if name not in {*but, WRITTEN_BY_RUNS}]


def require_clean(root: Path, why: str, but: Collection[str] = (), hint: str = "") -> None:
    """See that the results of the working tree are those of its commit.

    Raises:
        GitError: files differ, or it is no repository.
    """
    require_repository(root)
    changed = changed_files(root, but)
    if changed:
        shown = ", ".join(changed[:8]) + (f" and {len(changed) - 8} more" if len(changed) > 8 else "")
        raise GitError(f"the working tree differs from its commit ({shown}), and {why}. Commit the changes{hint}.")


def head(root: Path, revision: str = "HEAD") -> str:
    """The commit of a revision.

    Raises:
        GitError: there is none.
    """
    require_repository(root)
    return git(root, "rev-parse", "--verify", f"{revision}^{{commit}}")


def reachable_source(root: Path, commit: str) -> str:
    """Where another clone can get `commit` from: `origin`, where one of its branches holds it; otherwise this folder,
    which serves workers of the same machine only. Credentials in the address are left out: each machine has its own.
    """
    if "origin" in git(root, "remote").split() and git(root, "branch", "--remotes", "--contains", commit).strip():
        return without_credentials(git(root, "remote", "get-url", "origin"))
    return str(root.resolve())
