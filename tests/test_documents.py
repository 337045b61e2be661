"""The documents against the project: sizes, links, and the code, files and presets that they mention."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    if path.name not in ("log.md", "results.md", "CHANGELOG.md")  # these keep old names
)
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or a word in a module's text; nothing is imported."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                text = path.read_text(encoding="utf-8")
                return count == len(parts) or re.search(rf"\b{parts[count]}\b", text) is not None
    return False


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8000


@pytest.mark.parametrize(
    "path", sorted((*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))), ids=lambda path: path.name
)
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (path.parent / link.partition("#")[0]).exists()]
    assert missing == []


@pytest.mark.parametrize("name", TEXTS)
def test_code_that_is_mentioned_exists(name: str) -> None:
    mentioned = set(re.findall(r"`((?:gfpet|flows|benchmarks)(?:\.\w+)+)`", TEXTS[name]))
    # A list of functions after a package: `gfpet.method.plug`: `plugged`, `projected`
    for package, functions in re.findall(r"`(gfpet(?:\.\w+)+)`: ((?:`\w+`(?:, )?)+)", TEXTS[name]):
        mentioned |= {f"{package}.{function}" for function in re.findall(r"`(\w+)`", functions)}
    assert [each for each in sorted(mentioned) if not exists(each)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_mentioned_exist(name: str) -> None:
    paths = re.findall(r"`((?:gfpet|flows|tests|docs|presets|benchmarks|checkpoints)/[\w./-]*)`", TEXTS[name])
    assert [each for each in paths if not (ROOT / each).exists()] == []


@pytest.mark.parametrize("name", TEXTS)
def test_presets_that_are_mentioned_exist(name: str) -> None:
    named = set(re.findall(r"--preset ([\w.-]+)", TEXTS[name])) - {"NAME"}
    assert [each for each in sorted(named) if not (ROOT / "presets" / f"{each}.yaml").is_file()] == []


def test_the_licence_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert project["license"] == citation["license"] == "Apache-2.0"
    assert "Apache License\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert citation["version"] == project["version"]


def test_hooks_run_what_make_check_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [re.sub(r" --(?!check)\S+", "", hook["entry"].removeprefix(".venv/bin/")) for hook in hooks]
    assert commands[:3] == ["ruff format --check", "ruff check", "mypy"]
    assert all(f"$(BIN)/{command}" in makefile for command in commands[:3])


def test_the_readme_marks_the_table_of_the_default_run() -> None:
    text = TEXTS["README.md"]
    table = text.split("<!-- default-run -->\n")[1].split("<!-- /default-run -->")[0]
    record = json.loads((ROOT / "docs" / "results" / "default.json").read_text(encoding="utf-8"))
    assert len(table.splitlines()) == 2 + 7
    assert record["command"] == "make run"
