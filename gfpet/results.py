"""Files of every evaluating stage: result rows, and the predictions behind them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gfpet.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One measured value. A column that does not apply is empty (text) or None (number)."""

    family: str
    small: str = ""
    """Path or hub id of the small model."""
    large: str = ""
    """Path or hub id of the large model."""
    task: str
    kind: str = ""
    """Kind of module, a name of `gfpet.lm.registry.KINDS`; empty without a module."""
    method: str
    """`zero_shot`, `small_tuned`, `bridge_alone` (ladder side-tuning with S's module), `plugged`, `random_w_plug`,
    `full`, `gradient`; the report adds `chance` and `majority`."""
    strategy: str = ""
    """Strategy of the plugged module; empty for other methods."""
    seed: int | None = None
    metric: str
    """A metric of the task, or `score`: the mean of the task's metrics."""
    value: float
    ci_low: float | None = None
    """Lower end of the bootstrap interval. Stages leave both ends None; the report computes them."""
    ci_high: float | None = None
    n: int | None = None
    """Number of evaluated examples."""


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """The candidate chosen for each example, in the order of `outputs/prepare/<task>/eval.jsonl`."""

    method: str
    kind: str = ""
    strategy: str = ""
    seed: int | None = None
    choices: tuple[int, ...]

    @property
    def key(self) -> PredictionKey:
        """Key of the matching result rows in the same file: one row per metric."""
        return self.method, self.kind, self.strategy, self.seed


PredictionKey = tuple[str, str, str, int | None]
"""Method, kind, strategy and seed."""

_COLUMNS = [field.name for field in fields(ResultRow)]


def order(row: ResultRow) -> tuple[str | int, ...]:
    """Sort key: every identifying column, never the value."""
    seed = -1 if row.seed is None else row.seed
    return (row.family, row.small, row.large, row.task, row.kind, row.method, row.strategy, seed, row.metric)


def write_results(path: Path, rows: Iterable[ResultRow]) -> int:
    """Write the rows as a sorted JSON list and return their number; the same rows give the same bytes."""
    records = [asdict(row) for row in sorted(rows, key=order)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return len(records)


def read_results(path: Path) -> list[ResultRow]:
    """Read what `write_results` wrote. Skips columns that `ResultRow` lacks (the report adds some).

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


def write_predictions(path: Path, rows: Iterable[PredictionRow]) -> None:
    """Write sorted JSON lines; the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(rows, key=lambda row: (*row.key[:3], -1 if row.seed is None else row.seed))
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in ordered), encoding="utf-8")


def read_predictions(path: Path) -> list[PredictionRow]:
    """Read what `write_predictions` wrote.

    Raises:
        DataError: the file is missing, or a line is not a prediction row; names the file and the line.
    """
    if not path.exists():
        raise DataError(f"no predictions at {path}; run the stage that writes them first (dvc repro).")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            rows.append(PredictionRow(**{**record, "choices": tuple(record["choices"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}:{number}: not a row of predictions ({error}); run its stage again.") from error
    return rows
