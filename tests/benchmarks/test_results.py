"""The results page: rendering records, and making a record from a report."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from benchmarks.results import PAGE, RECORDS, Record, add, load_record, main, render, save_record, this_machine
from gfpet.errors import DataError
from gfpet.report import Scope, collect, report_rows, write_rows
from tasks.git import GitError
from tests.report.tree import write_tree

ROOT = Path(__file__).resolve().parents[2]
RECORD = Record(
    title="A table",
    command="gfpet run -S 'seeds=[0]'",
    commit="abc1234",
    date="2026-11-27",
    hardware="two cores",
    note="A note.",
    header=("method", "cb", "average"),
    rows=(("zero-shot L", "40.0", "45.0"), ("L + β (S tuned - S)", "50.0", "")),
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A Git repository with a report of two tasks and two seeds."""
    (tmp_path / "params.yaml").write_text("seeds: [0, 1]\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "gfpet").mkdir()
    (tmp_path / "gfpet" / "code.py").write_text("VALUE = 1\n")
    write_tree(tmp_path)
    scope = Scope(families=("gpt2",), tasks=("cb", "copa"), kinds=("lora",), seeds=(0, 1), among=())
    (tmp_path / "reports").mkdir(exist_ok=True)
    write_rows(tmp_path / "reports", report_rows(collect(tmp_path, scope)))
    for command in (["init", "-q"], ["add", "params.yaml", "dvc.yaml", "gfpet"], ["commit", "-q", "-m", "start"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=tmp_path, check=True)
    return tmp_path


def commit_of(root: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save_record(tmp_path / "a.json", RECORD)
    assert load_record(tmp_path / "a.json") == RECORD


def test_the_page_has_every_record_with_what_made_it(tmp_path: Path) -> None:
    save_record(tmp_path / RECORDS / "b-more.json", replace(RECORD, title="Third", note=""))
    save_record(tmp_path / RECORDS / "b.json", replace(RECORD, title="Second"))
    save_record(tmp_path / RECORDS / "a.json", RECORD)
    page = render(tmp_path)
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# Results",
        "## A table",
        "## Second",
        "## Third",
    ]
    section = page.split("## A table\n")[1].split("## Second")[0]
    assert section == (
        "\n`gfpet run -S 'seeds=[0]'`, commit abc1234, 2026-11-27, two cores.\n\n"
        "| method | cb | average |\n| --- | ---: | ---: |\n| zero-shot L | 40.0 | 45.0 |\n"
        "| L + β (S tuned - S) | 50.0 |  |\n\nA note.\n\n"
    )


def test_the_last_report_becomes_a_record(project: Path) -> None:
    record = add(project, "small", "gfpet run", title="Small")
    assert load_record(project / RECORDS / "small.json") == record
    assert (record.title, record.command, record.hardware) == ("Small", "gfpet run", this_machine())
    assert record.commit == commit_of(project)[:7]
    assert record.date == date.today().isoformat()
    assert record.header == ("method", "cb", "copa", "average")
    # CB: zero-shot 40, gradients 80; COPA: 10 points more.
    cells = {row[0]: row[1:] for row in record.rows}
    assert cells["gpt2: zero-shot L"] == ("40.0 [35.0, 45.0]", "50.0 [45.0, 55.0]", "45.0")
    assert cells["gpt2: L by gradients, lora"][2].startswith("85.0")


def test_a_refreshed_record_keeps_its_title_and_loses_its_note(project: Path) -> None:
    add(project, "small", "gfpet run", title="Small", note="Old figures.")
    record = add(project, "small", "gfpet bench")
    assert (record.title, record.command) == ("Small", "gfpet bench")
    assert "Old figures." not in record.note
    assert "points" in record.note


def test_a_record_says_when_the_code_differs_from_its_commit(project: Path) -> None:
    (project / "gfpet" / "code.py").write_text("VALUE = 2\n")
    assert add(project, "small", "gfpet run").commit == f"{commit_of(project)[:7]} with uncommitted changes"


def test_the_command_adds_and_renders(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    main(["add", "small", "--command", "gfpet run", "--title", "Small", "--hardware", "a card"])
    page = (project / PAGE).read_text(encoding="utf-8")
    assert page == render(project)
    assert f"`gfpet run`, commit {commit_of(project)[:7]}, {date.today().isoformat()}, a card." in page


def test_without_a_report_there_is_nothing_to_add(project: Path) -> None:
    (project / "reports" / "results.json").unlink()
    with pytest.raises(DataError, match="gfpet run"):
        add(project, "small", "gfpet run")


def test_without_git_there_is_no_commit_to_name(tmp_path: Path) -> None:
    write_tree(tmp_path)
    scope = Scope(families=("gpt2",), tasks=("cb", "copa"), kinds=("lora",), seeds=(0, 1), among=())
    (tmp_path / "reports").mkdir(exist_ok=True)
    write_rows(tmp_path / "reports", report_rows(collect(tmp_path, scope)))
    with pytest.raises(GitError):
        add(tmp_path, "small", "gfpet run")


@pytest.mark.parametrize("text", ["[]", '{"title": "x"}', "not json"])
def test_a_broken_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"broken\.json"):
        load_record(path)


def test_a_row_as_long_as_the_header_is_asked_for(tmp_path: Path) -> None:
    save_record(tmp_path / "a.json", replace(RECORD, rows=(("zero-shot L", "40.0"),)))
    with pytest.raises(DataError, match="2 cells, the header 3"):
        load_record(tmp_path / "a.json")


def test_the_committed_page_is_what_its_records_give() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == render(ROOT)
    for path in (ROOT / RECORDS).glob("*.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        assert about["command"], path
        assert about["commit"], path
        assert about["date"], path
        assert about["hardware"], path
