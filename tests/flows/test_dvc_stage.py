from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from gfpet.errors import ConfigError
from tasks.dvc_stage import StageError, StageResult, outcome_of, read_graph, reproduce_stage, stale_stages
from tests.flows.conftest import PROJECT, ran


def reproduce(name: str, root: Path) -> StageResult:
    with disable_run_logger():
        return reproduce_stage.fn(name, root)


def test_the_graph_comes_in_an_order_that_can_be_run(tiny: Path) -> None:
    graph = read_graph(tiny)
    assert graph == {"first": (), "left@x": ("first",), "right": ("first",), "last": ("left@x", "right")}
    assert list(graph) == ["first", "left@x", "right", "last"]


def test_what_many_wait_for_with_others_comes_first() -> None:
    order = [name.partition("@")[0] for name in read_graph(PROJECT)]
    assert order.index("tune") < order.index("reference") < order.index("bridge")
    assert order.index("similarity") < order.index("evaluate")
    assert order[-1] == "report"


def test_targets_bring_what_they_need(tiny: Path) -> None:
    assert list(read_graph(tiny, ["left@x"])) == ["first", "left@x"]
    assert list(read_graph(tiny, ["left", "right"])) == ["first", "left@x", "right"]


def test_an_unknown_target_is_answered_with_the_nearest(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown stage 'rihgt'; did you mean 'right'\? Allowed: .*left, left@x"):
        read_graph(tiny, ["rihgt"])


def test_a_broken_dvc_yaml_is_named(tiny: Path) -> None:
    (tiny / "dvc.yaml").write_text("stages: {a: {cmd: 1, depps: [x]}}")
    with pytest.raises(ConfigError, match=r"cannot read .*dvc\.yaml"):
        read_graph(tiny)


def test_a_stage_runs_once_and_is_restored_from_the_run_cache(tiny: Path) -> None:
    assert stale_stages(tiny, read_graph(tiny)) == {"first", "left@x", "right", "last"}
    assert reproduce("first", tiny).outcome == "ran"
    assert reproduce("first", tiny).outcome == "unchanged"
    shutil.rmtree(tiny / "outputs" / "first")
    (tiny / "dvc.lock").unlink()
    assert reproduce("first", tiny).outcome == "cached"
    assert ran(tiny) == ["first"]
    assert (tiny / "outputs/first/text.txt").read_text() == "first plain"
    assert stale_stages(tiny, ["first"]) == set()
    assert "right" in stale_stages(tiny, read_graph(tiny))


def test_a_failing_stage_carries_what_it_said(tiny: Path) -> None:
    (tiny / "a.txt").write_text("break-first")
    with pytest.raises(StageError) as caught:
        reproduce("first", tiny)
    assert "stage 'first' failed" in str(caught.value)
    assert "error: the input says that this stage breaks" in str(caught.value)
    assert "failed to reproduce" not in str(caught.value)
    assert any("failed to reproduce" in line for line in caught.value.last_lines)
    assert not caught.value.may_pass


@pytest.mark.parametrize(
    ("line", "may_pass"),
    [
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", True),
        ("requests.exceptions.ConnectionError: HTTPSConnectionPool: Max retries exceeded", True),
        ("503 Server Error: Service Unavailable for url", True),
        ("error: unknown task 'bolq'", False),
        ("RuntimeError: CUDA out of memory", False),
    ],
)
def test_only_what_passes_by_itself_is_tried_again(line: str, may_pass: bool) -> None:
    assert StageError("tune", 1, ["before", line]).may_pass is may_pass


def test_outcomes_are_those_of_the_stage_alone() -> None:
    assert outcome_of("a", ["Stage 'b' didn't change, skipping", "Running stage 'a':"]) == "ran"
    assert outcome_of("a", ["Stage 'a' is cached - skipping run, checking out outputs"]) == "cached"
