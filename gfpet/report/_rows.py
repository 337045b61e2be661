"""Result rows with gap closed and cost: `results.csv`, `results.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from gfpet.errors import DataError
from gfpet.report._collect import Collected, finite, mean
from gfpet.report._costs import cost_of
from gfpet.results import ResultRow

_PLUGGED = ("plugged", "random_w_plug")
"""Methods with a gap closed: those that put a module into the large model."""
_SMALLEST_GAP = 0.03
"""If gradient tuning gains less than this over zero-shot, a fraction of that gain is meaningless."""


@dataclass(frozen=True)
class ReportRow:
    """A result row with its gap closed and cost. None is an empty cell."""

    family: str
    small: str
    large: str
    task: str
    kind: str
    method: str
    strategy: str
    seed: int | None
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None
    gap_closed: float | None
    """(value - zero-shot) / (gradient tuning of the same kind - zero-shot)."""
    peak_memory_bytes: int | None
    """Maximum over all stages of the method."""
    seconds: float | None
    """Sum over all phases of the method."""
    adapt_seconds: float | None
    """The same without scoring the evaluation examples."""


def report_rows(collected: Collected) -> list[ReportRow]:
    """One report row for each result row, in the same order."""
    rows = []
    for row in collected.rows:
        cost = cost_of(
            collected.memory,
            family=row.family,
            task=row.task,
            method=row.method,
            kind=row.kind,
            strategy=row.strategy,
            seed=row.seed,
            among=collected.scope.among,
        )
        gap = None
        if row.method in _PLUGGED:
            zero = _reference(collected.rows, row, "zero_shot", "")
            gap = gap_closed(row.value, zero, _reference(collected.rows, row, "gradient", row.kind))
        values = {
            **asdict(row),
            "value": finite(row.value),
            "ci_low": finite(row.ci_low),
            "ci_high": finite(row.ci_high),
        }
        rows.append(
            ReportRow(
                **values,
                gap_closed=gap,
                peak_memory_bytes=cost.peak,
                seconds=finite(cost.seconds),
                adapt_seconds=finite(cost.adapt_seconds),
            )
        )
    return rows


def gap_closed(value: float | None, zero: float | None, ceiling: float | None) -> float | None:
    """Fraction of the gap from zero-shot to gradient tuning; None if a score is missing or the gap is too small."""
    value, zero, ceiling = finite(value), finite(zero), finite(ceiling)
    if value is None or zero is None or ceiling is None or ceiling - zero < _SMALLEST_GAP:
        return None
    return (value - zero) / (ceiling - zero)


def _reference(rows: Sequence[ResultRow], row: ResultRow, method: str, kind: str) -> float | None:
    """A method's value for the same task and metric, with the same seed if there is one, else the mean over seeds."""
    about = (row.family, row.task, row.metric, method, kind)
    found = [other for other in rows if (other.family, other.task, other.metric, other.method, other.kind) == about]
    same = [other for other in found if other.seed == row.seed]
    return mean(finite(other.value) for other in same or found)


def write_rows(folder: Path, rows: Sequence[ReportRow]) -> None:
    """Write `results.csv` (empty cells for None) and `results.json` (null for None)."""
    names = [field.name for field in fields(ReportRow)]
    records = [asdict(row) for row in rows]
    write_csv(folder / "results.csv", names, [[record[name] for name in names] for record in records])
    text = json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")


def read_rows(root: Path) -> list[ReportRow]:
    """Read the rows of the last report, `reports/results.json` below the project's root.

    Raises:
        DataError: there is no report yet.
    """
    path = root / "reports" / "results.json"
    if not path.is_file():
        raise DataError(f"no results at {path}; make them first: gfpet run.")
    return [ReportRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file. None becomes an empty cell, a float its shortest exact form."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
