"""Writes the report's folder."""

from __future__ import annotations

from pathlib import Path

from gfpet.report._collect import Collected
from gfpet.report._plots import write_plots
from gfpet.report._rows import ReportRow, report_rows, write_rows
from gfpet.report._tables import gap_table, memory_table, result_table, similarity_table

_SCORES = (
    "Points (0 to 100) of the mean of each task's official metrics: the mean over {seeds}{spread}; in brackets the "
    "bootstrap interval over the evaluated examples{means}. An empty cell was not run."
)
_GAP = (
    "(method - zero-shot L) / (L by gradients with the same kind of module - zero-shot L); `average` is that of the "
    "average scores. Empty without references, or where gradients gain less than 3 points."
)
_MEMORY = (
    "Largest over tasks and seeds: bytes allocated on the GPU, or exact live tensor bytes on a CPU. A method's peak is "
    "the maximum over all stages that it goes through; it stays empty if one of them was not measured."
)
_SIMILARITY = (
    "Means over tasks and seeds after a closed-form map, beside what chance gives (random map, untrained, other task) "
    "and what the same model with another seed reaches (the ceiling)."
)


def write_report(collected: Collected, folder: Path) -> list[ReportRow]:
    """Write `results.csv`, `results.json`, `tables.md` and the plots with their data. Returns the rows.

    The same inputs give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = report_rows(collected)
    write_rows(folder, rows)
    (folder / "tables.md").write_text(_tables(collected, rows), encoding="utf-8")
    write_plots(collected, rows, folder)
    return rows


def _tables(collected: Collected, rows: list[ReportRow]) -> str:
    scope = collected.scope
    several = len(scope.seeds) > 1
    scores = _SCORES.format(
        seeds=f"seeds {', '.join(map(str, scope.seeds))}" if several else f"seed {scope.seeds[0]}",
        spread=" ± their standard deviation" if several else "",
        means=" (means of its ends over seeds)" if several else "",
    )
    parts = ["# Results", ""]
    for family in scope.families:
        parts += [f"## {family}", "", *_pair(rows, family)]
        parts += [result_table(rows, scope, family).markdown(), scores, ""]
        parts += [gap_table(rows, scope, family).markdown(), _GAP, ""]
        parts += [memory_table(collected.memory, rows, scope, family).markdown(), _MEMORY, ""]
        table = similarity_table(collected.similarity, scope, family)
        if table.rows:
            parts += [table.markdown(), _SIMILARITY, ""]
    if collected.missing:
        parts += ["## Not there when this was written", "", *(f"- `{path}`" for path in collected.missing), ""]
    return "\n".join(parts)


def _pair(rows: list[ReportRow], family: str) -> list[str]:
    pairs = sorted({(row.small, row.large) for row in rows if row.family == family and row.small and row.large})
    return [line for small, large in pairs for line in (f"S is `{small}`, L is `{large}`.", "")]
