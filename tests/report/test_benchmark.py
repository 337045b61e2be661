"""The benchmark summary, from the round numbers of `tree.py` and the examples of two tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gfpet.data import Example, write_examples
from gfpet.report import Scope, collect, write_report
from gfpet.report._benchmark import benchmark_table
from gfpet.report._rows import ReportRow
from gfpet.results import write_results
from tests.report.tree import row, write_metrics, write_tree

SCOPE = Scope(families=("gpt2",), tasks=("cb", "copa"), kinds=("lora",), seeds=(0, 1), among=("readout",))

BENCHMARK = """\
# Benchmark

### Gap closed

| pair, kind | zero-shot L | S tuned | plugged L | L by gradients | gap closed, % | seconds | by gradients |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| gpt2, lora | 45.0 | 36.0 [23.3, 48.7] | 60.0 [-3.5, 123.5] | 85.0 [85.0, 85.0] | 37.5 [-121.3, 196.3] | 23.0 | 11.0 |

Averages over cb, copa, in points; mean over seeds 0, 1 with its 95% t interval. Gap closed = (plugged L - zero-shot \
L) / (L by gradients with the same kind of module - zero-shot L). Seconds: all stages that a result goes through, \
whichever it shares with others, mean over tasks; beside it that of L by gradients.

### gpt2: competence

| kind | zero-shot L - chance, at most 15 either way | S tuned - chance, at least 15 | L tuned - S tuned, at least 4 | \
L tuned, at least 85 |
| --- | ---: | ---: | ---: | ---: |
| lora | 3.6 met | -5.4 missed; not cb, copa | 49.0 met | 85.0 met; not cb |

Whether the pair shows good transfer from bad: each condition over the tasks' average, then the tasks that miss it by \
themselves. L tuned is by gradients, with the same kind of module.

### Minutes

| pair | derive | tune | align | prune | bridge | readout | evaluate | reference | similarity | together |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| gpt2 | 1.6 | 3.3 | 1.6 | 1.6 | 3.3 | 3.3 | 3.3 | 3.3 | 1.6 | 23.1 |

The stages' own time, summed over tasks; stages that run side by side count each.
"""


def write_eval(root: Path) -> None:
    """Write four examples per task. Guessing on CB: accuracy 1/3, F1 of the expected counts (0.4 + 2 * 2/7) / 3."""
    for task, candidates, golds in (("cb", 3, (0, 1, 2, 0)), ("copa", 2, (0, 1, 1, 1))):
        names = tuple(f"c{number}" for number in range(candidates))
        examples = [
            Example(id=f"{task}/{number}", context="?", candidates=names, labels=names, gold=(gold,), group="")
            for number, gold in enumerate(golds)
        ]
        folder = root / "outputs" / "prepare" / task
        folder.mkdir(parents=True)
        write_examples(folder / "eval.jsonl", examples)


def test_the_benchmark_at_a_glance(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_eval(tmp_path)
    write_metrics(tmp_path, "similarity/gpt2", {})
    write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    assert (tmp_path / "reports" / "benchmark.md").read_text() == BENCHMARK


def test_guessing_stands_first_in_the_scores_and_costs_nothing(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_eval(tmp_path)
    rows = write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    lines = (tmp_path / "reports" / "tables.md").read_text().splitlines()
    copa = {row.method: row for row in rows if (row.task, row.metric) == ("copa", "score") and row.seed is None}
    assert copa["chance"].value == pytest.approx(0.5)
    assert copa["majority"].value == pytest.approx(0.75)
    assert (copa["chance"].peak_memory_bytes, copa["chance"].seconds, copa["chance"].n) == (None, None, 4)
    assert [line.split("|")[1].strip() for line in lines if "guessing" in line or "commonest" in line] == [
        "guessing",
        "always the commonest answer",
    ]


def test_a_kind_without_references_has_no_competence(tmp_path: Path) -> None:
    write_tree(tmp_path, references=False)
    write_eval(tmp_path)
    write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    text = (tmp_path / "reports" / "benchmark.md").read_text()
    assert "competence" not in text
    assert "| gpt2, lora | 45.0 | 36.0 [23.3, 48.7] | 60.0 [-3.5, 123.5] |  |  |" in text


def test_a_condition_holds_up_to_its_bounds(tmp_path: Path) -> None:
    """Guessing on COPA scores 50, so S tuned meets the condition with 65, not with 64; CB misses it in both cases."""
    write_tree(tmp_path)
    write_eval(tmp_path)
    path = tmp_path / "outputs/tune/gpt2/copa/results.json"
    for value, misses in ((0.65, "; not cb |"), (0.64, "; not cb, copa |")):
        tuned = [row("copa", "small_tuned", value, "lora", seed) for seed in (0, 1)]
        write_results(path, tuned)
        write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
        assert f"missed{misses}" in (tmp_path / "reports" / "benchmark.md").read_text()


def test_a_way_without_a_kind_stands_beside_each_kind_by_gradients() -> None:
    ways = (("plugged", "", "readout", 3.0), ("gradient", "lora", "", 8.0), ("gradient", "prefix", "", 6.0))
    zero = ReportRow(**about("zero_shot", "", ""), seconds=1.0, adapt_seconds=0.0)
    rows = [zero, *(ReportRow(**about(*way[:3]), seconds=way[3], adapt_seconds=way[3]) for way in ways)]
    scope = Scope(families=("gpt2",), tasks=("cb",), kinds=("lora", "prefix"), seeds=(0,), among=("readout",))
    assert [(line[0], *line[-2:]) for line in benchmark_table(rows, scope).rows] == [
        ("gpt2, any kind, beside lora (readout)", "3.0", "8.0"),
        ("gpt2, any kind, beside prefix (readout)", "3.0", "6.0"),
    ]
    unmeasured = benchmark_table([*rows[:1], replace(rows[1], seconds=None)], scope).rows
    assert [line[-2:] for line in unmeasured] == [("", ""), ("", "")]
    (alone,) = benchmark_table(rows[:2], replace(scope, kinds=())).rows
    assert (alone[0], *alone[-2:]) == ("gpt2, any kind (readout)", "3.0", "")


def about(method: str, kind: str, strategy: str) -> dict[str, Any]:
    """All fields of a report row except the time."""
    own = {"kind": kind, "method": method, "strategy": strategy}
    shared = {"family": "gpt2", "small": "s", "large": "l", "task": "cb", "seed": 0, "metric": "score", "value": 0.5}
    return {**shared, **own, "ci_low": None, "ci_high": None, "n": 4, "gap_closed": None, "peak_memory_bytes": 1}
