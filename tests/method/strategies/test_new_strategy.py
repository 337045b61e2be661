"""A new strategy needs one file and one registry entry to work in configuration, evaluation, costs and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gfpet.config import Params, with_values
from gfpet.data import score
from gfpet.errors import ConfigError
from gfpet.lm.modules import PetModule
from gfpet.memory import Meter, measure
from gfpet.method.registry import STRATEGIES, Strategy
from gfpet.method.strategies import Evaluated, FrozenEvaluator, SelectionRecord, evaluate_strategies
from gfpet.pipeline import OF_RESULT, Phase, tag_of
from gfpet.report import Scope, collect, cost_of, memory_table, report_rows, result_table, write_report
from gfpet.results import ResultRow, write_results
from tests.report.tree import row, write_metrics
from tests.tiny import tiny_loaded, tiny_module, tiny_task

DUMMY = Strategy(
    "dummy",
    "dummy",
    "tests.method.strategies.dummy_strategy:build",
    ("tune", "evaluate"),
    phases=(Phase("infer", "dummy", OF_RESULT),),
    colour="#123456",
)
OPTIONS = {"scales": [2.0], "blockwise_scaling": {"steps": 1, "batch_size": 4, "learning_rate": 0.1, "epsilon": 0.1}}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STRATEGIES, "dummy", DUMMY)


@dataclass
class Measured:
    """Measurements of phases, as kept by stage `evaluate`."""

    phases: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, phase: str, resident: Iterable[Any] = ()) -> AbstractContextManager[Meter]:
        return self._measuring(phase, resident)

    @contextmanager
    def _measuring(self, phase: str, resident: Iterable[Any]) -> Iterator[Meter]:
        with measure(phase, resident=resident) as meter:
            yield meter
        self.phases[phase] = meter.reading.as_dict()


@pytest.fixture(scope="module")
def run() -> tuple[list[Evaluated], dict[str, dict[str, Any]], dict[str, SelectionRecord]]:
    """Run `algorithm1`, `scaling`, the new strategy and `auto` on a tiny model; return rows, phases and selections."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRATEGIES, "dummy", DUMMY)
        loaded, data, measured = tiny_loaded(), tiny_task(12, 6), Measured()
        records: dict[str, SelectionRecord] = {}

        def module(tag: str) -> PetModule:
            return tiny_module(tag.partition("-")[0], loaded.model)

        found = evaluate_strategies(
            FrozenEvaluator(loaded, data, measured, batch_size=4),
            data,
            module,
            kinds=("lora", "adapter", "prefix"),
            seeds=(0,),
            strategies=("algorithm1", "scaling", "dummy", "auto"),
            auto=("algorithm1", "dummy"),
            zero_shot=True,
            random_controls={"lora-seed0": module("lora-seed0")},
            small={},
            outputs=Path,
            options=OPTIONS,
            record=records.__setitem__,
        )
        return list(found), measured.phases, records


def test_the_configuration_allows_it() -> None:
    allowed = with_values(
        Params(), {"evaluate.strategies": ["algorithm1", "dummy", "auto"], "evaluate.auto": ["dummy"]}
    )
    assert allowed.evaluate.strategies == ("algorithm1", "dummy", "auto")
    names = ", ".join(STRATEGIES)
    with pytest.raises(ConfigError) as caught:
        with_values(Params(), {"evaluate.strategies": ["dumy", "auto"], "evaluate.auto": ["auto"]})
    assert f"evaluate.strategies[0]: got 'dumy'; allowed: {names}, auto; did you mean 'dummy'?" in str(caught.value)
    assert f"evaluate.auto[0]: got 'auto'; allowed: {names}" in str(caught.value)


def test_it_is_evaluated(run: Any) -> None:
    evaluated, phases, records = run
    assert [(each.method, each.kind, each.strategy) for each in evaluated] == [
        ("zero_shot", "", ""),
        ("plugged", "lora", "algorithm1"),
        ("plugged", "lora", "scaling"),
        ("plugged", "lora", "dummy"),
        ("plugged", "lora", "auto"),
        ("random_w_plug", "lora", ""),
        # The new strategy gives no result for an adapter, and a prefix has no scale.
        ("plugged", "adapter", "algorithm1"),
        ("plugged", "adapter", "scaling"),
        ("plugged", "adapter", "auto"),
        ("plugged", "prefix", "algorithm1"),
        ("plugged", "prefix", "dummy"),
        ("plugged", "prefix", "auto"),
    ]
    assert {"choose-dummy/lora-seed0", "infer-dummy/lora-seed0", "infer-dummy/prefix-seed0"} <= set(phases)
    assert list(records["lora-seed0"].as_dict()["dev_scores"]) == ["zero_shot", "algorithm1", "scaling", "dummy"]
    assert records["lora-seed0"].as_dict()["among"] == ["zero_shot", "algorithm1", "dummy"]


def test_each_measured_phase_is_of_a_method_or_a_strategy(run: Any) -> None:
    own = {str(phase.filled("lora", 0)) for strategy in STRATEGIES.values() for phase in strategy.phases}
    of_lora = {str(Phase.parse(name).scoring) for name in run[1] if name.endswith("/lora-seed0")}
    assert {"infer/lora-seed0", "infer-scaling/lora-seed0", "infer-dummy/lora-seed0"} <= of_lora & own
    assert of_lora - own == {"infer-random/lora-seed0"}


def test_its_costs_and_scores_are_in_the_report(run: Any, tmp_path: Path) -> None:
    evaluated, phases, _ = run
    examples = tiny_task(12, 6).eval.examples

    def row_of(each: Evaluated) -> ResultRow:
        value = score("rte", examples, each.predictions.choices)["score"]
        return row("rte", each.method, value, each.kind, each.seed, strategy=each.strategy)

    rows = [row_of(each) for each in evaluated]
    write_results(tmp_path / "outputs/evaluate/gpt2/rte/results.json", rows)
    write_metrics(tmp_path, "evaluate/gpt2/rte", phases)
    write_metrics(tmp_path, "tune/gpt2/rte", {f"train/{tag_of('lora', 0)}": {"seconds": 2, "cpu_live_peak_bytes": 7}})
    scope = Scope(("gpt2",), ("rte",), ("lora", "adapter", "prefix"), (0,), ("algorithm1", "dummy"))
    collected = collect(tmp_path, scope)
    about = {"family": "gpt2", "task": "rte", "method": "plugged", "kind": "lora", "seed": 0}
    cost = cost_of(collected.memory, **about, strategy="dummy")
    scored, chosen = phases["infer-dummy/lora-seed0"], phases["choose-dummy/lora-seed0"]
    assert list(cost.peaks) == ["tune", "evaluate"]
    assert cost.seconds == pytest.approx(2 + scored["seconds"] + chosen["seconds"])
    assert cost.adapt_seconds == pytest.approx(2 + chosen["seconds"])

    report = report_rows(collected)
    names = [line[0] for line in result_table(report, scope, "gpt2").rows]
    assert "plugged L, lora (dummy)" in names
    assert "plugged L, prefix (dummy)" in names
    memory = {line[0]: line for line in memory_table(collected.memory, report, scope, "gpt2").rows}
    assert memory["plugged L, lora (dummy)"][1] == "7.00 B"
    write_report(collected, tmp_path / "reports")
    assert "plugged L, lora (dummy)" in (tmp_path / "reports/accuracy_memory.csv").read_text()
