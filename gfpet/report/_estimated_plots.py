"""Plots of peak-memory estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfpet.pipeline import PEAK_NAMES
from gfpet.report._estimated_records import title_of
from gfpet.report._plots import plain_style, save_figure

_GIB = 2**30
_COLOURS = dict(
    zip(
        PEAK_NAMES,
        ("#D55E00", "#E69F00", "#F0E442", "#009E73", "#56B4E9", "#0072B2", "#CC79A7", "#999999", "#000000"),
        strict=True,
    )
)
_LINES = {"full": "#CC79A7", "lora": "#D55E00", "mezo": "#E69F00", "ladder side-tuning": "#009E73", "gfpet": "#0072B2"}


def plot_stages(records: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """A bar for each stage of each method; the longest bar of a method is its peak."""
    from matplotlib.figure import Figure

    with plain_style():
        lines = [(record, stage) for record in records for stage in PEAK_NAMES if stage in record["stages"]]
        figure = Figure(figsize=(7.5, 0.19 * len(lines) + 1.2), layout="constrained")
        axis = figure.subplots()
        for place, (record, stage) in enumerate(lines):
            size = record["stages"][stage] / _GIB
            axis.barh(place, size, height=0.8, color=_COLOURS[stage])
            weight = "bold" if stage == record["highest_stage"] else "normal"
            axis.text(size, place, f" {size:.2f}", va="center", fontsize=6.5, fontweight=weight)
        axis.set_yticks(range(len(lines)), [f"{title_of(record)}: {stage}" for record, stage in lines], fontsize=6.5)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("peak of live tensors (GiB); bold: the method's own peak")
        axis.set_title(title, loc="left", fontsize=8)
        save_figure(figure, path)


def plot_modules(parts: Mapping[tuple[str, str], int], title: str, path: Path, most: int = 25) -> None:
    """The largest parts of a peak, by category and by the module that allocated them."""
    from matplotlib.figure import Figure

    with plain_style():
        largest = sorted(parts.items(), key=lambda part: -part[1])[:most]
        figure = Figure(figsize=(7.5, 0.22 * len(largest) + 1.2), layout="constrained")
        axis = figure.subplots()
        categories = list(dict.fromkeys(category for (category, _), _ in largest))
        colours = dict(
            zip(categories, ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#999999"), strict=False)
        )
        for place, ((category, _), size) in enumerate(largest):
            axis.barh(place, size / 2**20, height=0.75, color=colours[category])
        names = [f"{category}: {name or 'outside of modules'}" for (category, name), _ in largest]
        axis.set_yticks(range(len(largest)), names, fontsize=7)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("MiB alive at the peak")
        axis.set_title(title, loc="left", fontsize=8)
        save_figure(figure, path)


def plot_curve(curve: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Peak against size of L, a line for each method."""
    from matplotlib.figure import Figure

    with plain_style():
        figure = Figure(figsize=(6.5, 4.2), layout="constrained")
        axis = figure.subplots()
        shown: dict[str, tuple[Mapping[str, Any], list[float], list[float]]] = {}
        for run in curve:
            for record in run["methods"]:
                line = shown.setdefault(title_of(record), (record, [], []))
                line[1].append(run["parameters"] / 1e9)
                line[2].append(record["peak"] / _GIB)
        for name, (record, sizes, peaks) in shown.items():
            style = "--" if record["checkpointed"] else "-"
            colour = _LINES.get(record["method"], "#999999")
            axis.plot(sizes, peaks, style, marker="o", markersize=3, color=colour, label=name, linewidth=1.2)
        for card in (8, 24, 80):
            axis.axhline(card * 1e9 / _GIB, color="#bbbbbb", linewidth=0.8)
            axis.annotate(f"{card} GB", (1.0, card * 1e9 / _GIB), xycoords=("axes fraction", "data"), fontsize=7)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("parameters of L (billions)")
        axis.set_ylabel("peak of live tensors (GiB)")
        axis.legend(fontsize=7)
        save_figure(figure, path)
