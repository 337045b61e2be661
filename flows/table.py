"""Result tables and run comparisons for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gfpet.tracking import Comparison


def result_tables(root: Path) -> list[Table]:
    """One table per family: methods by tasks, from `reports/results.json`.

    Raises:
        DataError: there is no report yet.
    """
    from rich.table import Table

    from gfpet.report import Scope, read_rows, result_table

    rows = read_rows(root)
    scope = Scope(
        families=tuple(dict.fromkeys(row.family for row in rows)),
        tasks=tuple(dict.fromkeys(row.task for row in rows)),
        kinds=tuple(dict.fromkeys(row.kind for row in rows if row.kind)),
        seeds=tuple(dict.fromkeys(row.seed for row in rows if row.seed is not None)),
        among=(),
    )
    shown = []
    for family in scope.families:
        table = result_table(rows, scope, family)
        columns = Table(title=table.title)
        for number, name in enumerate(table.header):
            columns.add_column(name, justify="right" if number else "left")
        for cells in table.rows:
            columns.add_row(*cells)
        shown.append(columns)
    return shown


def comparison_tables(comparison: Comparison, every: bool) -> list[Table]:
    """Runs side by side: their descriptions, and the parameters and metrics that differ.

    Args:
        comparison: From `gfpet.tracking.compare_runs`.
        every: Also show parameters and metrics that are equal.
    """
    from rich.table import Table

    shown = []
    for title, rows in (("runs", comparison.about), ("parameters", comparison.params), ("metrics", comparison.metrics)):
        table = Table(title=title)
        table.add_column("")
        for run in comparison.runs:
            table.add_column(run[:8], justify="left" if title == "runs" else "right")
        chosen = {name: values for name, values in rows.items() if every or title == "runs" or len(set(values)) > 1}
        for name, values in chosen.items():
            table.add_row(name, *values)
        if len(chosen) < len(rows):
            table.caption = f"{len(rows) - len(chosen)} more are equal"
        shown.append(table)
    return shown
