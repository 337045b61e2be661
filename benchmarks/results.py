"""The results page docs/results.md, rendered from JSON records in docs/results/, one for each table.

Usage:
    python -m benchmarks.results                               render docs/results.md again
    python -m benchmarks.results add NAME --command COMMAND    add or refresh the record NAME from reports/, then render

`add` takes the scores of the last `gfpet run` or `gfpet bench`: methods by tasks, one row for each family and method.
It records commit, date and machine. `--title`, `--note` and `--hardware` replace its default texts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from gfpet.errors import DataError
from gfpet.report import Scope, Table, read_rows, result_table
from tasks.git import changed_files, head
from tasks.workspace import find_root

RECORDS = Path("docs/results")
PAGE = Path("docs/results.md")
_CODE = ("gfpet", "tasks", "flows", "presets", "dvc.yaml", "params.yaml")
"""Files that determine a result; the record notes uncommitted changes of them."""
_NOTE = (
    "Scores in points from 0 to 100: the mean over the seeds, ± their standard deviation where there are several; in "
    "brackets the bootstrap interval over the evaluated examples."
)
_HEAD = """# Results

`python -m benchmarks.results` writes this page from the records in `docs/results/`; do not edit it by hand. To add the
results of the last run: `python -m benchmarks.results add NAME --command "gfpet run ..."`.

Algorithm 1 is our reconstruction of the paper's method from its abstract and two summaries ([method.md](method.md)). It
prunes the Bridge by activations; the paper prunes by Fisher importance. "Bridge alone" is ladder side-tuning with S's
module: the Bridge stays at inference and reads L's activations.
"""


@dataclass(frozen=True)
class Record:
    """One table, with the command, commit, date and hardware that made it."""

    title: str
    command: str
    commit: str
    date: str
    hardware: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The record as a section of the page: title, origin, table, note."""
        made = f"`{self.command}`, commit {self.commit}, {self.date}, {self.hardware}."
        heading, table = Table(self.title, self.header, self.rows).markdown().split("\n\n", 1)
        parts = [heading.replace("###", "##", 1), made, table.strip(), *([self.note] if self.note else [])]
        return "\n\n".join(parts) + "\n"


def load_record(path: Path) -> Record:
    """Read one record.

    Raises:
        DataError: the file is no record; the message names the file and the error.
    """
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        texts = {field.name: str(about[field.name]) for field in fields(Record) if field.name not in ("header", "rows")}
        record = Record(
            **texts, header=tuple(map(str, about["header"])), rows=tuple(tuple(map(str, row)) for row in about["rows"])
        )
    except (ValueError, KeyError, TypeError) as error:
        names = ", ".join(field.name for field in fields(Record))
        raise DataError(f"{path} is no record of results ({error!r}); a record has the keys {names}.") from error
    wrong = [row for row in record.rows if len(row) != len(record.header)]
    if wrong:
        raise DataError(f"{path}: the row {list(wrong[0])} has {len(wrong[0])} cells, the header {len(record.header)}.")
    return record


def save_record(path: Path, record: Record) -> None:
    """Write one record with one line for each row of the table, so that diffs are easy to read."""
    about = asdict(record)
    rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in about.pop("rows"))
    lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in about.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join([*lines, f' "rows": [\n  {rows}\n ]']) + "\n}\n", encoding="utf-8")


def render(root: Path) -> str:
    """Text of the page: all records, sorted by file name.

    Raises:
        DataError: a file of docs/results/ is no record.
    """
    paths = sorted((root / RECORDS).glob("*.json"), key=lambda path: path.stem)
    return "\n".join([_HEAD, *(load_record(path).markdown() for path in paths)])


def add(root: Path, name: str, command: str, *, title: str = "", note: str = "", hardware: str = "") -> Record:
    """Write the record `name` from the last report: scores in points, with the report's intervals.

    An existing record keeps its title unless a new one is given. Its note, about the old scores, is dropped.

    Raises:
        DataError: there is no report.
        GitError: the project is no Git repository.
    """
    path = root / RECORDS / f"{name}.json"
    old = load_record(path) if path.is_file() else None
    header, rows = _scores(root)
    changed = [each for each in changed_files(root) if each.startswith(_CODE)]
    commit = head(root)[:7] + (" with uncommitted changes" if changed else "")
    record = Record(
        title=title or (old.title if old else name),
        command=command,
        commit=commit,
        date=date.today().isoformat(),
        hardware=hardware or this_machine(),
        note=note or _NOTE,
        header=header,
        rows=rows,
    )
    save_record(path, record)
    return record


def _scores(root: Path) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Header and rows of the result tables of all families."""
    found = read_rows(root)
    scope = Scope(
        families=tuple(dict.fromkeys(row.family for row in found)),
        tasks=tuple(dict.fromkeys(row.task for row in found)),
        kinds=tuple(dict.fromkeys(row.kind for row in found if row.kind)),
        seeds=tuple(dict.fromkeys(row.seed for row in found if row.seed is not None)),
        among=(),
    )
    tables = {family: result_table(found, scope, family) for family in scope.families}
    rows = [(f"{family}: {row[0]}", *row[1:]) for family, table in tables.items() for row in table.rows]
    return ("method", *scope.tasks, "average"), tuple(rows)


def this_machine() -> str:
    """This machine's processor, cores and system, as text."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in _lines(info) if line.startswith("model name")]
    processor = models[0] if models else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def main(arguments: Sequence[str] | None = None) -> None:
    """Render the page, after adding a record with action `add`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description="Render docs/results.md.")
    actions = parser.add_subparsers(dest="action")
    adding = actions.add_parser("add", help="add or refresh a record from reports/")
    adding.add_argument("name", help="the record's file name, without .json")
    adding.add_argument("--command", required=True, help="the command that made the results")
    for option in ("title", "note", "hardware"):
        adding.add_argument(f"--{option}", default="")
    given = parser.parse_args(arguments)
    root = find_root(Path.cwd())
    if given.action == "add":
        add(root, given.name, given.command, title=given.title, note=given.note, hardware=given.hardware)
    (root / PAGE).write_text(render(root), encoding="utf-8")
    print(root / PAGE)


if __name__ == "__main__":
    main()
