"""Peak-memory estimates as tables and plots: `reports/memory.md`, `reports/memory/`.

The input is the JSON of `gfpet memory estimate --json`, so that estimates can be kept and shown again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gfpet.pipeline import PEAK_NAMES
from gfpet.report._estimated_plots import plot_curve, plot_stages
from gfpet.report._estimated_records import Record, title_of
from gfpet.report._tables import Table

ESTIMATED = "memory"
"""Name of the report's file and folder."""
CARDS = (8, 16, 24, 80)
"""Sizes of common GPUs, in GB."""
_GIB = 2**30

PAPER = {
    "gpt2": ("GPT2-XL, batch 8, length 512", "7.1", {"adapter": "5.3", "prefix": "5.6", "lora": "5.7"}),
    "t5": ("T5-3B, batch 1, length 512", "5.1", {"adapter": "3.6", "prefix": "3.5", "lora": "3.6"}),
}
"""The paper's memory ratios, by family: setting, ratio to full fine-tuning, ratio to each kind of module."""


def estimate_table(records: Sequence[Record], title: str) -> Table:
    """Methods by stages: peaks in GiB, their maximum, and the ratios of reference methods' peaks to it."""
    shown = [stage for stage in PEAK_NAMES if any(stage in record["stages"] for record in records)]
    body = [
        (
            title_of(record),
            *(_gib(record["stages"].get(stage)) for stage in shown),
            _gib(record["peak"]),
            *(_times(record[f"ratio_to_{name}"]) for name in ("full", "best_peft", "lora_checkpointed")),
        )
        for record in records
    ]
    header = ("method", *shown, "peak", "less than full", "than the best module", "than LoRA, checkpointed")
    return Table(title, header, body)


def split_table(records: Sequence[Record], title: str) -> Table:
    """The parts of each method's peak, in GiB."""
    names = list(records[0]["split"])
    body = [
        (title_of(record), record["highest_stage"], *(_gib(record["split"][name]) for name in names))
        for record in records
    ]
    return Table(title, ("method", "stage of the peak", *names), body)


def fits_table(records: Sequence[Record], title: str) -> Table:
    """Which methods fit on which cards, by live tensors alone; a GPU itself needs a few hundred MB more."""
    body = [
        (title_of(record), *("yes" if record["peak"] <= card * 10**9 else "no" for card in CARDS)) for record in records
    ]
    return Table(title, ("method", *(f"{card} GB" for card in CARDS)), body)


def write_estimates(runs: Sequence[Mapping[str, Any]], folder: Path, curve: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write `memory.md` to a folder, and JSON and plots to `memory/` in it. Returns the path of `memory.md`.

    Args:
        runs: outputs of `gfpet memory estimate --json`, one for each pair of models.
        folder: the report's folder.
        curve: likewise, for pairs of increasing size.
    """
    below = folder / ESTIMATED
    below.mkdir(parents=True, exist_ok=True)
    parts = ["# Memory, estimated", "", _INTRODUCTION, ""]
    for run in runs:
        records, name = run["methods"], run["large"].rsplit("/", 1)[-1]
        (below / f"{name}.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
        title = f"{run['large']} with {run['small']}, batch {run['batch']}, length {run['length']}"
        parts += [f"## {title}", "", estimate_table(records, "Peak of each stage, GiB").markdown()]
        if run["family"] in PAPER:
            setting, full, kinds = PAPER[run["family"]]
            against = ", ".join(f"{times}x below {kind}" for kind, times in kinds.items())
            parts += [f"The paper has ({setting}): {full}x below full fine-tuning, {against}.", ""]
        parts += [split_table(records, "What the peak is made of, GiB").markdown()]
        parts += [fits_table(records, "Fits on a card of").markdown()]
        plot_stages(records, title, below / f"{name}.png")
        parts += [f"![peaks by stage]({ESTIMATED}/{name}.png)", ""]
    if curve:
        (below / "curve.json").write_text(json.dumps(list(curve), indent=1) + "\n", encoding="utf-8")
        plot_curve(curve, below / "curve.png")
        parts += ["## Peak against size", "", _curve_table(curve).markdown(), f"![curve]({ESTIMATED}/curve.png)", ""]
    path = folder / f"{ESTIMATED}.md"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


_INTRODUCTION = (
    "Live tensor bytes at their peak: the real step of each method and of each of our stages, run under fake tensors "
    "at true size. A method's peak is the maximum over all its stages. `cached` is what the Bridge reads of L's "
    "activations; `other` are batches, sums and temporary values of the optimizer. Gradient methods hold L in the data "
    "type of `reference.dtype`, ours in that of `models.<family>.large.dtype`."
)


def _curve_table(curve: Sequence[Mapping[str, Any]]) -> Table:
    titles = list(dict.fromkeys(title_of(record) for run in curve for record in run["methods"]))
    body = []
    for title in titles:
        peaks = [{title_of(each): each["peak"] for each in run["methods"]}.get(title) for run in curve]
        body.append((title, *(_gib(peak) for peak in peaks)))
    return Table("Peak, GiB", ("method", *(f"{run['parameters'] / 1e9:.1f}B" for run in curve)), body)


def _gib(size: int | None) -> str:
    return "" if size is None else f"{size / _GIB:.2f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.1f}x"
