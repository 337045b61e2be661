from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.dvc_stage import reproduce_stage
from tasks.git import GitError
from tasks.remote import check_push, pull_data, push_data
from tests.flows.conftest import ran


def test_results_and_the_record_of_runs_go_by_the_remote(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tiny.parent / "remote"
    config = (tiny / ".dvc" / "config").read_text()
    config = config.replace("[core]\n", "[core]\n    remote = team\n") + f"['remote \"team\"']\n    url = {remote}\n"
    (tiny / ".dvc" / "config").write_text(config)
    colleague = tiny.parent / "colleague"
    ignore = shutil.ignore_patterns("cache", "tmp", "outputs", "metrics", "log.txt", "dvc.lock")
    with disable_run_logger():
        reproduce_stage.fn("first", tiny)
        push_data.fn(tiny)
        shutil.copytree(tiny, colleague, ignore=ignore)
        monkeypatch.chdir(colleague)
        pull_data.fn(colleague)
        result = reproduce_stage.fn("first", colleague, pull=True)
    assert result.outcome == "cached"
    assert ran(colleague) == []
    assert (colleague / "outputs/first/text.txt").read_text() == "first plain"


def test_what_is_pushed_must_be_what_a_commit_makes(tiny: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tiny, check=True, capture_output=True)

    with pytest.raises(GitError, match="no Git repository"):
        check_push(tiny)
    git("init", "--quiet")
    git("add", "-A")
    git("commit", "--quiet", "-m", "start")
    check_push(tiny)
    (tiny / "a.txt").write_text("changed")
    with pytest.raises(GitError, match=r"\(a\.txt\).*--allow-dirty"):
        check_push(tiny)
    check_push(tiny, allow_dirty=True)
