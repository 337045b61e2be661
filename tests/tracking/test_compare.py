from __future__ import annotations

from pathlib import Path

import pytest

from flows.table import comparison_tables
from gfpet.config import apply_preset, load_params
from gfpet.errors import DataError
from gfpet.tracking import compare_runs, open_parent
from gfpet.tracking.store import STAGE_KEY, Store


def open_run(project: Path, name: str, score: float) -> str:
    run_id = open_parent(project, "gpt2", load_params(project / "params.yaml"), name, name)
    assert run_id
    Store(project).log_points(run_id, [("plugged/lora/score", score, 0), ("seconds", 7.0, 0)])
    return run_id


def test_runs_side_by_side(project: Path) -> None:
    first = open_run(project, "first", 0.25)
    apply_preset(None, ["prune.factor=8"], project / "params.yaml")
    second = open_run(project, "second", 0.75)
    found = compare_runs(project, [first, second])
    assert found.runs == (first, second)
    assert found.about["run"] == ("first", "second")
    assert found.params["prune.factor"] == ("4.0", "8.0")
    assert found.metrics == {"plugged/lora/score": ("0.25", "0.75"), "seconds": ("7", "7")}
    runs, params, metrics = comparison_tables(found, every=False)
    assert runs.row_count == len(found.about)
    assert params.row_count == 1
    assert params.caption == f"{len(found.params) - 1} more are equal"
    assert metrics.row_count == 1
    assert comparison_tables(found, every=True)[2].row_count == 2


def test_what_cannot_be_compared_is_told(project: Path) -> None:
    with pytest.raises(DataError, match="no runs of gfpet yet"):
        compare_runs(project, ["a", "b"])
    first = open_run(project, "first", 0.25)
    with pytest.raises(DataError, match=rf"takes two runs or more, found 1(.|\n)*{first}  first"):
        compare_runs(project, [first])
    with pytest.raises(DataError, match=r"no run 'nothing'"):
        compare_runs(project, [first, "nothing"])
    open_run(project, "second", 0.5)
    with pytest.raises(DataError, match=r"2 runs begin with ''"):
        compare_runs(project, [first, ""])


def test_of_two_runs_of_one_result_one_is_left(project: Path) -> None:
    store = Store(project)
    experiment = store.experiment("gpt2")
    # As made by two machines that start at the same moment.
    runs = [store.client.create_run(experiment, tags={STAGE_KEY: "k"}).info.run_id for _ in range(2)]
    store.client.set_terminated(runs[0], "FINISHED")
    store.drop_doubles(experiment, "k")
    assert len(store.client.search_runs([experiment])) == 2
    store.client.set_terminated(runs[1], "FINISHED")
    store.drop_doubles(experiment, "k")
    (left,) = store.client.search_runs([experiment])
    assert left.info.run_id == min(runs)
