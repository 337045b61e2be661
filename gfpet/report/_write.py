"""Writes the report's folder."""

from __future__ import annotations

from pathlib import Path

from gfpet.report._benchmark import CONFIDENCE, benchmark_table, competence_table, minutes_table
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
_BENCHMARK = (
    "Averages over {tasks}, in points; {seeds}. Gap closed = (plugged L - zero-shot L) / (L by gradients with the same "
    "kind of module - zero-shot L). Seconds: all stages that a result goes through, whichever it shares with others, "
    "mean over tasks; beside it that of L by gradients."
)
_COMPETENCE = (
    "Whether the pair shows good transfer from bad: each condition over the tasks' average, then the tasks that miss "
    "it by themselves. L tuned is by gradients, with the same kind of module."
)
_MINUTES = "The stages' own time, summed over tasks; stages that run side by side count each."


def write_report(collected: Collected, folder: Path) -> list[ReportRow]:
    """Write `results.csv`, `results.json`, `tables.md`, `benchmark.md`, and the plots with their data; return the rows.

    The same inputs give the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = report_rows(collected)
    write_rows(folder, rows)
    (folder / "tables.md").write_text(_tables(collected, rows), encoding="utf-8")
    (folder / "benchmark.md").write_text(_benchmark(collected, rows), encoding="utf-8")
    write_plots(collected, rows, folder)
    return rows


def _benchmark(collected: Collected, rows: list[ReportRow]) -> str:
    scope = collected.scope
    several = f"mean over seeds {', '.join(map(str, scope.seeds))} with its {CONFIDENCE:.0%} t interval"
    seeds = several if len(scope.seeds) > 1 else f"seed {scope.seeds[0]} alone"
    parts = ["# Benchmark", "", benchmark_table(rows, scope).markdown()]
    parts += [_BENCHMARK.format(tasks=", ".join(scope.tasks), seeds=seeds), ""]
    competence = [competence_table(rows, scope, family) for family in scope.families]
    parts += [table.markdown() for table in competence if table.rows]
    if any(table.rows for table in competence):
        parts += [_COMPETENCE, ""]
    return "\n".join([*parts, minutes_table(collected.seconds, scope).markdown(), _MINUTES, ""])


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
