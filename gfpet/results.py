"""Result rows: what a stage that evaluates something writes, and what the report, MLflow and the tests read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gfpet.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measured value. Text is empty and a number is None where a column does not apply."""

    family: str
    small: str = ""
    """Path or hub id of the small model."""
    large: str = ""
    """Path or hub id of the large model."""
    task: str
    kind: str = ""
    """Kind of module, a name of `gfpet.lm.registry.KINDS`; empty if no module takes part."""
    method: str
    """`zero_shot`, `small_tuned`, `bridge_alone`, `plugged`, `random_w_plug`, `full`, `gradient`; the report adds
    `chance` and `majority`."""
    strategy: str = ""
    """Which way of plugging, where there is more than one."""
    seed: int | None = None
    metric: str
    """`score` is the mean of a task's official metrics; they also have rows of their own."""
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    """Evaluated examples."""


_COLUMNS = [field.name for field in fields(ResultRow)]


def order(row: ResultRow) -> tuple[str | int, ...]:
    """Sort key: by what was measured, never by its value."""
    seed = -1 if row.seed is None else row.seed
    return (row.family, row.small, row.large, row.task, row.kind, row.method, row.strategy, seed, row.metric)


def write_results(path: Path, rows: Iterable[ResultRow]) -> int:
    """Write the rows as a JSON list, sorted; the same rows always give the same bytes. Returns how many."""
    records = [asdict(row) for row in sorted(rows, key=order)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(records)


def read_results(path: Path) -> list[ResultRow]:
    """Read what `write_results` wrote. Columns that are not of a row (the report adds some) are left out.

    Raises:
        DataError: the file is missing, or not a list of rows; names the file and the row.
    """
    if not path.exists():
        raise DataError(f"no results at {path}; run the stage that writes them first (dvc repro).")
    try:
        records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [ResultRow(**{key: record[key] for key in _COLUMNS if key in record}) for record in records]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a list of result rows ({error}); run its stage again.") from error
