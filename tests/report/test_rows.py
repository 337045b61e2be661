"""Gap closed and cost, against hand-computed values from the round numbers of `tree.py`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gfpet.errors import DataError
from gfpet.method.registry import STRATEGIES
from gfpet.pipeline import COST_STAGES
from gfpet.report import ReportRow, Scope, collect, cost_of, report_rows, write_rows
from gfpet.report._costs import METHODS
from gfpet.report._rows import gap_closed
from gfpet.results import read_results, write_results
from tests.report.tree import MB, phase, row, write_metrics, write_tree

SCOPE = Scope(families=("gpt2",), tasks=("cb", "copa"), kinds=("lora",), seeds=(0, 1), among=("readout",))
COLUMNS = (
    "family small large task kind method strategy seed metric value ci_low ci_high n "
    "gap_closed peak_memory_bytes seconds adapt_seconds"
)


def one(rows: list[ReportRow], task: str, method: str, seed: int | None) -> ReportRow:
    (found,) = [row for row in rows if (row.task, row.method, row.seed) == (task, method, seed)]
    return found


def test_gap_closed_is_the_part_of_the_way_to_gradients(tmp_path: Path) -> None:
    write_tree(tmp_path)
    rows = report_rows(collect(tmp_path, SCOPE))
    # CB: zero-shot 40, gradient tuning 80, plugged 50 and 60.
    assert one(rows, "cb", "plugged", 0).gap_closed == pytest.approx(0.25)
    assert one(rows, "cb", "plugged", 1).gap_closed == pytest.approx(0.5)
    assert one(rows, "cb", "random_w_plug", 0).gap_closed == 0
    assert {row.gap_closed for row in rows if row.method not in ("plugged", "random_w_plug")} == {None}


def test_a_seed_without_its_reference_is_held_against_the_mean_of_the_others(tmp_path: Path) -> None:
    write_tree(tmp_path)
    path = tmp_path / "outputs/reference/gpt2/cb/results.json"
    write_results(path, [row("cb", "gradient", 0.6, "lora", 0), row("cb", "gradient", 0.8, "lora", 7)])
    scope = replace(SCOPE, seeds=(0, 1, 7))
    rows = report_rows(collect(tmp_path, scope))
    assert one(rows, "cb", "plugged", 0).gap_closed == pytest.approx(0.1 / 0.2)
    assert one(rows, "cb", "plugged", 1).gap_closed == pytest.approx(0.2 / 0.3)


def test_the_gap_is_of_the_same_metric_and_kind(tmp_path: Path) -> None:
    write_tree(tmp_path)
    accuracy = [
        row("cb", "zero_shot", 0.5, metric="accuracy"),
        row("cb", "plugged", 0.6, "lora", 0, metric="accuracy"),
        row("cb", "plugged", 0.6, "prefix", 0, metric="accuracy"),
    ]
    path = tmp_path / "outputs/evaluate/gpt2/cb/results.json"
    write_results(path, [*read_results(path), *accuracy])
    path = tmp_path / "outputs/reference/gpt2/cb/results.json"
    write_results(path, [*read_results(path), row("cb", "gradient", 0.7, "lora", 0, metric="accuracy")])
    scope = replace(SCOPE, kinds=("lora", "prefix"))
    gaps = {row.kind: row.gap_closed for row in report_rows(collect(tmp_path, scope)) if row.metric == "accuracy"}
    assert gaps == {"": None, "lora": pytest.approx(0.5), "prefix": None}


@pytest.mark.parametrize(
    ("value", "zero", "ceiling"),
    [
        (None, 0.4, 0.8),
        (0.5, None, 0.8),
        (0.5, 0.4, None),
        (0.5, 0.4, 0.4),
        (0.5, 0.4, 0.4 + 1e-10),
        (float("nan"), 0.4, 0.8),
    ],
)
def test_there_is_no_gap_where_a_part_is_missing_or_gradients_gain_nothing(
    value: float | None, zero: float | None, ceiling: float | None
) -> None:
    assert gap_closed(value, zero, ceiling) is None


def test_a_method_costs_the_maximum_over_its_stages_and_the_sum_of_their_times(tmp_path: Path) -> None:
    write_tree(tmp_path)
    rows = report_rows(collect(tmp_path, SCOPE))
    costs = {(row.method, row.seed): (row.peak_memory_bytes, row.seconds) for row in rows if row.task == "cb"}
    assert costs == {
        ("zero_shot", None): (29 * MB, 0.5),
        ("small_tuned", 0): (10 * MB, 3),
        ("small_tuned", 1): (10 * MB, 3),
        ("random_w_plug", 0): (31 * MB, 2 + 1 + 1),
        ("random_w_plug", 1): (31 * MB, 2 + 1 + 1),
        # tune 2 + 1, align 5 + 1, prune 6, bridge 3 + 4, evaluate 1; the peak is that of align.
        ("plugged", 0): (33 * MB, 23),
        ("plugged", 1): (33 * MB, 23),
        ("gradient", 0): (90 * MB, 11),
        ("gradient", 1): (90 * MB, 11),
        ("full", 0): (160 * MB, 21),
    }


def test_scoring_the_evaluation_examples_is_no_part_of_adapting(tmp_path: Path) -> None:
    write_tree(tmp_path)
    rows = report_rows(collect(tmp_path, SCOPE))
    assert one(rows, "cb", "small_tuned", 0).adapt_seconds == 2
    assert one(rows, "cb", "gradient", 0).adapt_seconds == 10
    assert one(rows, "cb", "zero_shot", None).adapt_seconds == 0


def test_each_strategy_costs_what_it_goes_through() -> None:
    def phases(**peaks: int) -> dict[str, dict[str, int]]:
        return {
            name.replace("__", "/").replace("_", "-").replace("blockwise-scaling", "blockwise_scaling"): {
                "cpu_live_peak_bytes": peak,
                "seconds": 1,
            }
            for name, peak in peaks.items()
        }

    memory = {
        ("tune", "gpt2", "cb"): phases(train__lora_seed0=10, train__prefix_seed0=99),
        ("align", "gpt2"): phases(maps=20),
        ("prune", "gpt2"): phases(cut=30),
        ("bridge", "gpt2", "cb"): phases(train__lora_seed0=40),
        ("readout", "gpt2", "cb"): phases(cache=50, train__readout_seed0=45, train__readout_seed1=99),
        ("evaluate", "gpt2", "cb"): phases(
            infer__zero_shot=60,
            infer__lora_seed0=61,
            infer_scaling__lora_seed0=62,
            infer_small__zero_shot=5,
            infer_small__lora_seed0=6,
            infer__readout_seed0=63,
            infer__readout_seed1=99,
            infer_blockwise_scaling__lora_seed0=64,
            choose__zero_shot=7,
            choose__readout_seed0=8,
            choose_blockwise_scaling__lora_seed0=9,
            infer_random__lora_seed0=99,
        ),
    }

    def passed(
        strategy: str, kind: str = "lora", among: tuple[str, ...] = ()
    ) -> tuple[dict[str, int | None], Any, Any]:
        about = {"family": "gpt2", "task": "cb", "method": "plugged", "kind": kind, "strategy": strategy}
        cost = cost_of(memory, **about, seed=0, among=among)
        return cost.peaks, cost.seconds, cost.adapt_seconds

    # Every phase takes one second.
    way = {"tune": 10, "align": 20, "prune": 30, "bridge": 40}
    assert passed("algorithm1") == ({**way, "evaluate": 61}, 5, 4)
    assert passed("scaling") == ({**way, "evaluate": 62}, 6, 4)
    assert passed("blockwise_scaling") == ({**way, "evaluate": 64}, 6, 5)
    assert passed("proxy_tuning") == ({"tune": 10, "evaluate": 60}, 5, 2)
    assert passed("readout", kind="") == ({"readout": 50, "evaluate": 63}, 4, 3)

    everything = ("algorithm1", "scaling", "blockwise_scaling", "proxy_tuning", "readout")
    assert passed("auto", among=everything) == ({**way, "readout": 50, "evaluate": 64}, 16, 9)
    assert passed("auto", among=("proxy_tuning",)) == passed("proxy_tuning")
    only_readout = {"readout": 50, "evaluate": 63}, 6, 4
    assert passed("auto", among=("readout",)) == only_readout
    assert passed("auto", kind="", among=("proxy_tuning", "readout")) == only_readout
    assert passed("auto", kind="prefix", among=("scaling", "readout")) == only_readout


def test_every_stage_of_a_route_has_its_place() -> None:
    routes = [route.stages for route in METHODS.values()] + [strategy.route for strategy in STRATEGIES.values()]
    assert {stage for route in routes for stage in route} <= set(COST_STAGES)


def test_the_peak_may_be_in_any_stage(tmp_path: Path) -> None:
    for place, name in [
        ("derive/gpt2", "choose"),
        ("tune/gpt2/cb", "train/lora-seed1"),
        ("prune/gpt2", "importance-activation"),
        ("bridge/gpt2/cb", "cache"),
        ("bridge/gpt2/cb", "train/lora-seed1"),
        ("evaluate/gpt2/cb", "infer/lora-seed1"),
    ]:
        write_tree(tmp_path)
        metrics = tmp_path / "metrics" / f"{place}.json"
        write_metrics(tmp_path, place, json.loads(metrics.read_text())["memory"] | {name: phase(1, 70 * MB)})
        rows = report_rows(collect(tmp_path, SCOPE))
        assert one(rows, "cb", "plugged", 1).peak_memory_bytes == 70 * MB
        shared = name in ("choose", "importance-activation", "cache")
        assert one(rows, "cb", "plugged", 0).peak_memory_bytes == (70 if shared else 33) * MB


def cost(memory: dict[tuple[str, ...], dict[str, dict[str, Any]]], method: str, kind: str = "") -> tuple[Any, Any]:
    found = cost_of(memory, family="gpt2", task="cb", method=method, kind=kind, seed=1)
    return found.peak, found.seconds


def test_cuda_counts_before_cpu() -> None:
    memory = {("tune", "gpt2", "cb"): {"train/lora-seed1": phase(1, 5, cuda=7), "infer/lora-seed1": phase(2, 6)}}
    assert cost(memory, "small_tuned", "lora") == (7, 3)


def test_seed_1_is_not_seed_11() -> None:
    memory = {("tune", "gpt2", "cb"): {"train/lora-seed11": phase(9, 99), "train/lora-seed1": phase(1, 5)}}
    assert cost(memory, "small_tuned", "lora") == (5, 1)


def test_a_stage_that_was_not_measured_leaves_the_cost_open() -> None:
    memory = {("tune", "gpt2", "cb"): {"train/lora-seed1": phase(1, 5)}}
    assert cost(memory, "plugged", "lora") == (None, None)
    memory["tune", "gpt2", "cb"]["train/lora-seed1"] = phase(1, None)
    assert cost(memory, "small_tuned", "lora") == (None, 1)


def test_files_hold_no_nan_and_empty_cells_for_what_is_missing(tmp_path: Path) -> None:
    write_tree(tmp_path, references=False)
    path = tmp_path / "outputs/tune/gpt2/cb/results.json"
    write_results(path, [row("cb", "small_tuned", float("nan"), "lora", 0, ci_low=float("-inf"), ci_high=None, n=None)])
    rows = [row for row in report_rows(collect(tmp_path, SCOPE)) if (row.task, row.seed) in (("cb", 0), ("cb", None))]
    write_rows(tmp_path, rows)
    assert (tmp_path / "results.csv").read_text() == (
        COLUMNS.replace(" ", ",")
        + "\n"
        + "gpt2,S,L,cb,,zero_shot,,,score,0.4,0.35000000000000003,0.45,100,,29000000,0.5,0.0\n"
        + "gpt2,S,L,cb,lora,plugged,algorithm1,0,score,0.5,0.45,0.55,100,,33000000,23.0,21.0\n"
        + "gpt2,S,L,cb,lora,random_w_plug,,0,score,0.4,0.35000000000000003,0.45,100,,31000000,4.0,2.0\n"
        + "gpt2,S,L,cb,lora,small_tuned,,0,score,,,,,,10000000,3.0,2.0\n"
    )

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in JSON")

    records = json.loads((tmp_path / "results.json").read_text(), parse_constant=refuse)
    assert [" ".join(record) for record in records] == [COLUMNS] * 4
    assert records[3] | {"value": None, "ci_low": None, "n": None, "gap_closed": None} == records[3]


def test_results_json_reads_back_as_result_rows(tmp_path: Path) -> None:
    write_tree(tmp_path)
    collected = collect(tmp_path, SCOPE)
    write_rows(tmp_path, report_rows(collected))
    assert read_results(tmp_path / "results.json") == collected.rows


def test_only_what_is_configured_is_read(tmp_path: Path) -> None:
    write_tree(tmp_path, tasks=("cb", "copa"))
    rows = collect(tmp_path, Scope(("gpt2",), ("copa",), ("lora",), (1,), ("readout",))).rows
    assert {(row.task, row.seed) for row in rows} == {("copa", 1), ("copa", None)}
    without = collect(tmp_path, Scope(("gpt2",), ("copa",), ("prefix",), (0,), ("readout",))).rows
    assert {row.method for row in without} == {"zero_shot", "full"}


def test_nothing_there_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing to report: no results for families \['gpt2'\].*run the pipeline"):
        collect(tmp_path, SCOPE)


def test_two_values_for_one_result_are_an_error(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_results(tmp_path / "outputs/bridge/gpt2/cb/results.json", [row("cb", "zero_shot", 0.41)])
    with pytest.raises(DataError, match="another stage has this result with another value"):
        collect(tmp_path, SCOPE)


def test_broken_files_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "metrics/align/gpt2.json").write_text("[]")
    with pytest.raises(DataError, match=r"metrics/align/gpt2\.json has no mapping 'memory'"):
        collect(tmp_path, SCOPE)
    (tmp_path / "metrics/align/gpt2.json").write_text("{")
    with pytest.raises(DataError, match=r"metrics/align/gpt2\.json is not JSON"):
        collect(tmp_path, SCOPE)
    write_tree(tmp_path)
    path = tmp_path / "outputs/similarity/gpt2/similarity.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"rows": [{"task": "cb"}]}')
    with pytest.raises(DataError, match=r"similarity\.json has no rows of similarities \(KeyError\('kind'\)\)"):
        collect(tmp_path, SCOPE)


def test_what_is_not_there_is_listed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "metrics/prune/gpt2.json").unlink()
    (tmp_path / "outputs/tune/gpt2/cb/results.json").unlink()
    assert collect(tmp_path, SCOPE).missing == [
        "metrics/prune/gpt2.json",
        "outputs/similarity/gpt2/similarity.json",
        "outputs/tune/gpt2/cb/results.json",
    ]
