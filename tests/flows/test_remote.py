from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.dvc_stage import reproduce_stage
from tasks.remote import pull_data, push_data
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
