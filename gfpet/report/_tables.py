"""Tables of the report: scores in the paper's layout, gap closed, memory by stage, similarity with its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gfpet.pipeline import COST_STAGES
from gfpet.report._collect import Phases, Scope, SimilarityRow, mean
from gfpet.report._costs import cost_of, route_of
from gfpet.report._rows import ReportRow
from gfpet.report._summary import Score, Way, average_gap, average_score, task_gap, task_score, ways

EMPTY = ""
CONTROLS = ("random_map", "untrained", "other_task", "other_seed")


@dataclass(frozen=True)
class Table:
    """A table of text cells; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """A Markdown table under a heading, numbers aligned right."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.header, rule, *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, ""])

    def text(self) -> str:
        """Aligned plain text for a terminal."""
        columns = list(zip(self.header, *self.rows, strict=True))
        widths = [max(len(cell) for cell in column) for column in columns]
        lines = [
            "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
            for cells in (self.header, *self.rows)
        ]
        return "\n".join([self.title, "", *(line.rstrip() for line in lines), ""])


def result_table(rows: Sequence[ReportRow], scope: Scope, family: str) -> Table:
    """Methods by tasks, with their average; in points from 0 to 100."""
    body = []
    for way in ways(rows, scope, family):
        cells = [_points(task_score(rows, family, way, task)) for task in scope.tasks]
        body.append((way.name, *cells, _points(average_score(rows, family, way, scope.tasks))))
    return Table(f"{family}: scores", ("method", *scope.tasks, "average"), body)


def gap_table(rows: Sequence[ReportRow], scope: Scope, family: str) -> Table:
    """Gap closed between zero-shot and gradient tuning, in percent."""
    body = []
    for way in ways(rows, scope, family):
        if way.method in ("plugged", "random_w_plug"):
            cells = [_percent(task_gap(rows, family, way, task)) for task in scope.tasks]
            body.append((way.name, *cells, _percent(average_gap(rows, family, way, scope.tasks))))
    return Table(f"{family}: gap closed", ("method", *scope.tasks, "average"), body)


def memory_table(
    memory: Mapping[tuple[str, ...], Phases], rows: Sequence[ReportRow], scope: Scope, family: str
) -> Table:
    """Peak memory of each stage on a method's route, the maximum over tasks and seeds; then the maximum over stages."""
    stages = [stage for stage in COST_STAGES if stage != "derive" or memory.get((stage, family))]
    body = []
    for way in ways(rows, scope, family):
        if not route_of(memory, family, way.method):
            continue
        by_stage = stage_peaks(memory, rows, family, way, scope.among)
        complete = None not in by_stage.values() and by_stage
        most = max(peak for peak in by_stage.values() if peak is not None) if complete else None
        body.append((way.name, *(size(by_stage.get(stage)) for stage in stages), size(most)))
    return Table(f"{family}: peak memory by stage", ("method", *stages, "peak"), body)


def stage_peaks(
    memory: Mapping[tuple[str, ...], Phases],
    rows: Sequence[ReportRow],
    family: str,
    way: Way,
    among: Sequence[str],
) -> dict[str, int | None]:
    """Peak bytes of each stage of a method, the maximum over tasks and seeds with results; None if not measured.

    Args:
        among: the strategies that `auto` chooses among.
    """
    about: dict[str, str] = {"method": way.method, "kind": way.kind, "strategy": way.strategy}
    runs = {(row.task, row.seed) for row in rows if row.family == family and Way.of(row) == way}
    costs = [cost_of(memory, family=family, task=task, seed=seed, among=among, **about) for task, seed in runs]
    peaks: dict[str, int | None] = {}
    for stage in route_of(memory, family, way.method, way.kind, way.strategy, among):
        known = [peak for cost in costs if (peak := cost.peaks[stage]) is not None]
        peaks[stage] = max(known) if known and len(known) == len(costs) else None
    return peaks


def similarity_table(similarity: Sequence[SimilarityRow], scope: Scope, family: str) -> Table:
    """Means over tasks and seeds, with the null controls (`other_seed` is the ceiling)."""
    own = [row for row in similarity if row.family == family]
    further = sorted({name for row in own for name in row.controls} - set(CONTROLS))
    controls = [name for name in (*CONTROLS, *further) if any(name in row.controls for row in own)]
    body = []
    for kind in scope.kinds:
        for measure in dict.fromkeys(row.measure for row in own if row.kind == kind):
            group = [row for row in own if (row.kind, row.measure) == (kind, measure)]
            cells = [mean(row.value for row in group), *(mean(row.controls.get(c) for row in group) for c in controls)]
            body.append((f"{kind}, {measure.replace('_', ' ')}", *(_number(cell) for cell in cells)))
    header = ("kind, measure", "similarity", *(name.replace("_", " ") for name in controls))
    return Table(f"{family}: similarity of the modules of S and of L", header, body)


def size(count: int | None) -> str:
    """Bytes in decimal units, three significant figures: `1.23 GB`."""
    if count is None:
        return EMPTY
    value, unit = scaled(count)
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def scaled(count: int) -> tuple[float, str]:
    """Bytes as a number below 1000 and its unit."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return value, unit
        value /= 1000
    return value, "TB"


def _points(score: Score | None) -> str:
    if score is None:
        return EMPTY
    text = f"{100 * score.mean:.1f}"
    if score.std is not None:
        text += f" ± {100 * score.std:.1f}"
    if score.ci_low is not None and score.ci_high is not None:
        text += f" [{100 * score.ci_low:.1f}, {100 * score.ci_high:.1f}]"
    return text


def _percent(value: float | None) -> str:
    return EMPTY if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.3f}"
