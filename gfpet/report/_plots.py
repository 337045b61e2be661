"""Plots of the report as PNG, each with its data as CSV (for `dvc plots`). The same data give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpet.errors import DataError
from gfpet.lm.registry import KINDS
from gfpet.method.registry import AUTO, PAPER, STRATEGIES
from gfpet.pipeline import FAMILY_STAGES, TITLES
from gfpet.report._collect import Collected, mean
from gfpet.report._costs import route_of
from gfpet.report._rows import ReportRow, write_csv
from gfpet.report._summary import METHODS, Score, Way, average_score, task_score, ways
from gfpet.report._tables import scaled, size, stage_peaks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: distinguishable with every common form of colour blindness.
_COLOURS = {
    "zero_shot": "#000000",
    "small_tuned": "#E69F00",
    "random_w_plug": "#999999",
    "bridge_alone": "#56B4E9",
    "gradient": "#D55E00",
    "full": "#CC79A7",
}
_AUTO, _OTHER = "#882255", "#AA4499"
_MARKERS = {"": "D"} | {name: entry.marker for name, entry in KINDS.items()}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 120,
    "savefig.dpi": 120,
}
_ALL = "average"


def write_plots(collected: Collected, rows: Sequence[ReportRow], folder: Path) -> None:
    """Write the three CSV files, and the PNGs of every family that has data for them."""
    accuracy: list[list[object]] = []
    memory: list[list[object]] = []
    layers: list[list[object]] = []
    with plain_style():
        for family in collected.scope.families:
            accuracy += _accuracy(collected, rows, family, folder)
            memory += _memory(collected, rows, family, folder)
            layers += _similarity(collected, family, folder)
    header = ["family", "task", "method", "kind", "strategy", "score", "ci_low", "ci_high", "peak_memory_bytes", "name"]
    write_csv(folder / "accuracy_memory.csv", header, accuracy)
    write_csv(folder / "memory_stages.csv", ["family", "method", "kind", "stage", "peak_memory_bytes", "name"], memory)
    write_csv(folder / "similarity.csv", ["family", "kind", "measure", "small_layer", "large_layer", "value"], layers)


@contextmanager
def plain_style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's own style would change the bytes
        matplotlib.rcParams.update(_STYLE)
        yield


def save_figure(figure: Figure, path: Path) -> None:
    # No metadata: it contains matplotlib's version, and would change the bytes.
    figure.savefig(path, format="png", metadata={"Software": None})


def _accuracy(collected: Collected, rows: Sequence[ReportRow], family: str, folder: Path) -> list[list[object]]:
    """Score against peak memory: one panel for each task and one for the average, with intervals as bars."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    scope = collected.scope
    own = [way for way in ways(rows, scope, family) if route_of(collected.memory, family, way.method)]
    panels: dict[str, list[tuple[Way, Score]]] = {}
    for task in (_ALL, *scope.tasks):
        scores = [
            average_score(rows, family, way, scope.tasks) if task == _ALL else task_score(rows, family, way, task)
            for way in own
        ]
        panels[task] = [(way, score) for way, score in zip(own, scores, strict=True) if score is not None]
    table: list[list[object]] = [
        [family, task, way.method, way.kind, way.strategy, s.mean, s.ci_low, s.ci_high, s.peak, way.name]
        for task, points in panels.items()
        for way, s in points
    ]
    shown = {task: [(way, s) for way, s in points if s.peak is not None] for task, points in panels.items()}
    peaks = [score.peak for points in shown.values() for _, score in points if score.peak is not None]
    if not peaks:
        return table
    top, unit = scaled(max(peaks))
    divisor = max(peaks) / top
    columns = 2 if len(shown) in (2, 4) else min(len(shown), 3)
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.0 * columns + 2.2, 2.7 * lines + 0.5), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis, (task, points) in zip(axes, shown.items(), strict=False):
        _scatter(axis, points, divisor)
        axis.set_title(task, fontweight="bold" if task == _ALL else "normal")
        axis.set_xlim(0, 1.06 * top)
    for axis in axes[len(shown) :]:
        axis.remove()
    figure.suptitle(f"{family}: score against peak memory over all stages of a method")
    figure.supxlabel(f"peak memory ({unit})", fontsize=9)
    figure.supylabel("score (points)", fontsize=9)
    plotted = [way for points in shown.values() for way, _ in points]
    methods = dict.fromkeys(Way(way.method, "", way.strategy) for way in plotted)
    kinds = dict.fromkeys(way.kind for way in plotted)
    handles = [
        Line2D(
            [], [], linestyle="", marker="o", color=_colour(way), label=METHODS.get(way.method, way.method) + way.beside
        )
        for way in methods
    ] + [
        Line2D([], [], linestyle="", marker=_MARKERS.get(k, "v"), color="#555555", label=k or "no module")
        for k in kinds
    ]
    figure.legend(handles=handles, loc="outside right center")
    save_figure(figure, folder / f"accuracy_memory-{family}.png")
    return table


def _colour(way: Way) -> str:
    """Colour of a method; for a plugged one, colour of its strategy."""
    if way.method != "plugged":
        return _COLOURS.get(way.method, _OTHER)
    if way.strategy == AUTO:
        return _AUTO
    return STRATEGIES[way.strategy or PAPER].colour if (way.strategy or PAPER) in STRATEGIES else _OTHER


def _scatter(axis: Axes, points: Sequence[tuple[Way, Score]], divisor: float) -> None:
    for way, score in points:
        if score.peak is None:
            continue
        spread = None
        if score.ci_low is not None and score.ci_high is not None:
            spread = [[max(0.0, score.mean - score.ci_low) * 100], [max(0.0, score.ci_high - score.mean) * 100]]
        elif score.std is not None:
            spread = [[score.std * 100], [score.std * 100]]
        axis.errorbar(
            [score.peak / divisor],
            [score.mean * 100],
            yerr=spread,
            marker=_MARKERS.get(way.kind, "v"),
            color=_colour(way),
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.5,
            elinewidth=0.8,
            linestyle="",
            alpha=0.9,
        )


def _memory(collected: Collected, rows: Sequence[ReportRow], family: str, folder: Path) -> list[list[object]]:
    """Peak of every stage as bars: our stages, then gradient tuning of the large model."""
    from matplotlib.figure import Figure

    table: list[list[object]] = []
    bars: dict[tuple[str, str], tuple[str, int]] = {}
    place = {method: number for number, method in enumerate(("zero_shot", "plugged", "gradient", "full"))}
    for way in ways(rows, collected.scope, family):
        # `auto` uses the stages of its candidates, which have bars of their own.
        if way.method not in place or way.strategy == AUTO:
            continue
        for stage, peak in stage_peaks(collected.memory, rows, family, way, collected.scope.among).items():
            shared = stage in FAMILY_STAGES or not way.kind
            name = TITLES[stage] if way.method == "plugged" else way.name
            # A strategy's own stage (`readout`) already carries its name.
            if way.method == "plugged" and stage not in (*FAMILY_STAGES, way.strategy):
                name += f", {way.kind or way.strategy}"
            if peak is not None and (stage, name) not in bars:
                bars[stage, name] = (way.method, peak)
                table.append([family, way.method, "" if shared else way.kind, stage, peak, name])
    if not bars:
        return table
    stages = list(TITLES)
    ordered = sorted(bars.items(), key=lambda bar: (place[bar[1][0]], stages.index(bar[0][0])))
    top, unit = scaled(max(peak for _, peak in bars.values()))
    divisor = max(peak for _, peak in bars.values()) / top
    figure = Figure(figsize=(7.5, 0.27 * len(ordered) + 1.2), layout="constrained")
    axis = figure.subplots()
    for line, (_, (group, peak)) in enumerate(ordered):
        axis.barh(line, peak / divisor, height=0.7, color=_colour(Way(group)))
        axis.text(peak / divisor, line, f" {size(peak)}", va="center", fontsize=8)
    axis.set_yticks(range(len(ordered)), [name for (_, name), _ in ordered])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlim(0, 1.15 * top)
    axis.set_xlabel(f"peak memory ({unit}), largest over tasks and seeds")
    axis.set_title(f"{family}: memory by stage; a plugged L needs the longest blue bar", loc="left")
    save_figure(figure, folder / f"memory_stages-{family}.png")
    return table


def _similarity(collected: Collected, family: str, folder: Path) -> list[list[object]]:
    """Heat maps over pairs of layers, means over tasks and seeds: a file for each kind, a panel for each measure."""
    from matplotlib.figure import Figure

    table: list[list[object]] = []
    for kind in collected.scope.kinds:
        maps: dict[str, list[list[list[float | None]]]] = {}
        for row in collected.similarity:
            if (row.family, row.kind) == (family, kind) and row.heatmap:
                maps.setdefault(row.measure, []).append(row.heatmap)
        if not maps:
            continue
        means = {measure: _mean_map(every) for measure, every in maps.items()}
        for measure, grid in means.items():
            for small, line in enumerate(grid):
                table += [[family, kind, measure, small, large, value] for large, value in enumerate(line)]
        figure = Figure(figsize=(3.6 * len(means) + 0.6, 3.2), layout="constrained")
        for axis, (measure, grid) in zip(
            figure.subplots(1, len(means), squeeze=False).flat, means.items(), strict=True
        ):
            _heat(axis, measure, grid)
        figure.suptitle(f"{family}, {kind}: similarity of the modules of S and of L, by layer")
        save_figure(figure, folder / f"similarity-{family}-{kind}.png")
    return table


def _heat(axis: Axes, measure: str, grid: list[list[float | None]]) -> None:
    import numpy as np

    values = np.array([[np.nan if value is None else value for value in line] for line in grid])
    # cividis is uniform in lightness, for every form of colour blindness and in print. The scale starts at 0, or is
    # symmetric if a value (a cosine) is negative. It ends at the next tenth, since similarities are often near 0.1.
    top = max(0.1, math.ceil(10 * float(np.nanmax(np.abs(values)))) / 10)
    image = axis.imshow(
        values, cmap="cividis", vmin=-top if np.nanmin(values) < 0 else 0.0, vmax=top, origin="lower", aspect="auto"
    )
    axis.grid(visible=False)
    axis.set_title(measure.replace("_", " "))
    axis.set_xlabel("layer of L")
    axis.set_ylabel("layer of S")
    for ticks, count in ((axis.set_xticks, values.shape[1]), (axis.set_yticks, values.shape[0])):
        ticks(range(0, count, max(1, -(-count // 8))))
    if axis.figure is not None:
        axis.figure.colorbar(image, ax=axis)


def _mean_map(maps: Sequence[list[list[float | None]]]) -> list[list[float | None]]:
    """Element-wise mean of heat maps of one shape."""
    shapes = {tuple(len(line) for line in grid) for grid in maps}
    if len(shapes) > 1:
        raise DataError(f"similarity heat maps of one family have different shapes {shapes}; run 'similarity' again.")
    return [[mean(cells) for cells in zip(*lines, strict=True)] for lines in zip(*maps, strict=True)]
