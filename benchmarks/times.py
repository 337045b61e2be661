"""The time of each method that adapts L, compared with tuning a module on L with gradients up to its best epoch.

Usage, after a `gfpet run` or `gfpet bench` with references: python -m benchmarks.times [KIND]

KIND is the kind of the module tuned with gradients, `lora` by default. Times are seconds for one task, over all stages
of a method, as means over tasks and seeds. The column `seconds` includes scoring the evaluation examples, the column
`to adapt` does not. Tuning with gradients counts up to the epoch that is kept.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path

from gfpet.config import load_params
from gfpet.errors import DataError
from gfpet.report import ReportRow, Table, read_rows
from tasks.workspace import find_root


def times(root: Path, kind: str) -> list[Table]:
    """One table for each family of the last run.

    Raises:
        DataError: there is no report, or L was not tuned with this kind of module.
    """
    rows = [row for row in read_rows(root) if row.metric == "score"]
    return [_table(root, rows, family, kind) for family in load_params(root / "params.yaml").families]


def _table(root: Path, rows: list[ReportRow], family: str, kind: str) -> Table:
    own = [row for row in rows if row.family == family]
    tuned = [row for row in own if (row.method, row.kind) == ("gradient", kind)]
    if not tuned:
        raise DataError(f"{family}: no results of L tuned with {kind}; put it into reference.methods and run again.")
    to_best = statistics.fmean(_seconds_to_best(root, row) for row in tuned)
    body = []
    for way in dict.fromkeys((row.method, row.kind, row.strategy) for row in own):
        measured = [row for row in own if (row.method, row.kind, row.strategy) == way and row.value is not None]
        times = [(row.seconds, row.adapt_seconds) for row in measured]
        if way[0] in ("plugged", "gradient", "full") and measured and all(None not in each for each in times):
            score = statistics.fmean(row.value or 0.0 for row in measured)
            whole, adapting = (statistics.fmean(each or 0.0 for each in column) for column in zip(*times, strict=True))
            name = ", ".join(part for part in way if part)
            cells = f"{100 * score:.1f}", f"{whole:.1f}", f"{adapting:.1f}", f"{adapting / to_best:.2f}"
            body.append((name, *cells))
    title = f"{family}: {kind} on L by gradients takes {to_best:.1f} s a task to its best epoch"
    return Table(title, ("way", "score", "seconds", "to adapt", "of gradients' to the best epoch"), body)


def _seconds_to_best(root: Path, row: ReportRow) -> float:
    """Seconds of training up to the epoch that was kept: the one with the best held-out score, then loss."""
    name, where = f"{row.kind}-seed{row.seed}", f"reference/{row.family}/{row.task}"
    curves: dict[str, dict[int, float]] = {}
    with (root / "curves" / f"{where}.csv").open(encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            curves.setdefault(line["series"], {})[int(line["step"])] = float(line["value"])
    score, loss = curves[f"{name}/dev_score"], curves[f"{name}/dev_loss"]
    best = max(sorted(score), key=lambda step: (score[step], -loss[step]))
    record = json.loads((root / "metrics" / f"{where}.json").read_text(encoding="utf-8"))
    return float(record["memory"][f"train/{name}"]["seconds"]) * best / max(score)


def main() -> None:
    """Print the tables."""
    for table in times(find_root(Path.cwd()), sys.argv[1] if len(sys.argv) > 1 else "lora"):
        print(table.markdown())


if __name__ == "__main__":
    main()
