"""Intervals of the report, computed from a stage's saved predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gfpet.data import interval, score
from gfpet.data.examples import Example, write_examples
from gfpet.errors import DataError
from gfpet.report import Scope, collect, with_intervals
from gfpet.results import PredictionRow, ResultRow, read_predictions, write_predictions, write_results

SCOPE = Scope(families=("gpt2",), tasks=("cb",), kinds=("lora",), seeds=(0, 1), among=())
NAMES = ("yes", "no", "maybe")
EXAMPLES = [Example(f"e/{n}", "text", NAMES, NAMES, (n % 3,)) for n in range(30)]
CHOICES = {seed: tuple((n * (seed + 1) + n // 5) % 3 for n in range(30)) for seed in (0, 1)}


def write_stage(root: Path) -> Path:
    """Write outputs of stage `tune` with two seeds; return their folder."""
    folder = root / "outputs/tune/gpt2/cb"
    rows = [
        ResultRow(
            family="gpt2", task="cb", kind="lora", method="small_tuned", seed=seed, metric=metric, value=value, n=30
        )
        for seed, choices in CHOICES.items()
        for metric, value in score("cb", EXAMPLES, choices).items()
    ]
    write_results(folder / "results.json", rows)
    predicted = [
        PredictionRow(method="small_tuned", kind="lora", seed=seed, choices=choices)
        for seed, choices in CHOICES.items()
    ]
    write_predictions(folder / "predictions.jsonl", predicted)
    write_examples(root / "outputs/prepare/cb/eval.jsonl", EXAMPLES)
    return folder


def test_each_row_gets_the_interval_of_its_own_predictions_and_metric(tmp_path: Path) -> None:
    write_stage(tmp_path)
    found = with_intervals(collect(tmp_path, SCOPE), tmp_path, confidence=0.9, resamples=200)
    own = [row for row in found.rows if row.method == "small_tuned"]
    assert len(own) == 2 * 3
    for row in own:
        assert row.seed is not None
        expected = interval("cb", EXAMPLES, CHOICES[row.seed], row.metric, confidence=0.9, resamples=200, seed=0)
        assert (row.ci_low, row.ci_high) == expected
    assert {(row.ci_low, row.ci_high) for row in found.rows if row.method in ("chance", "majority")} == {(None, None)}


def test_a_stage_without_predictions_has_no_intervals_and_is_named(tmp_path: Path) -> None:
    folder = write_stage(tmp_path)
    (folder / "predictions.jsonl").unlink()
    found = with_intervals(collect(tmp_path, SCOPE), tmp_path, confidence=0.9, resamples=20)
    assert {row.ci_low for row in found.rows} == {None}
    assert "outputs/tune/gpt2/cb/predictions.jsonl" in found.missing


def test_predictions_of_other_examples_are_refused(tmp_path: Path) -> None:
    write_stage(tmp_path)
    write_examples(tmp_path / "outputs/prepare/cb/eval.jsonl", EXAMPLES[:20])
    with pytest.raises(DataError, match="30"):
        with_intervals(collect(tmp_path, SCOPE), tmp_path, confidence=0.9, resamples=20)


def test_predictions_are_ordered_and_come_back(tmp_path: Path) -> None:
    rows = [
        PredictionRow(method="zero_shot", choices=(1, 0)),
        PredictionRow(method="plugged", kind="lora", strategy="scaling", seed=1, choices=(0, 0)),
        PredictionRow(method="plugged", kind="lora", strategy="scaling", seed=0, choices=(2, 1)),
    ]
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, rows)
    assert read_predictions(path) == [rows[2], rows[1], rows[0]]
    assert json.loads(path.read_text().splitlines()[0]) == {
        "method": "plugged",
        "kind": "lora",
        "strategy": "scaling",
        "seed": 0,
        "choices": [2, 1],
    }
    path.write_text('{"method": "plugged"}\n')
    with pytest.raises(DataError, match=r"predictions\.jsonl:1: not a row of predictions"):
        read_predictions(path)
