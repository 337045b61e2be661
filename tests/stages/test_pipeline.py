"""All stage programs, run in order on tiny untrained models: their outputs, and that they are reproducible."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gfpet.config import apply_preset
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection, plugged
from gfpet.results import read_results
from tests.projects import ROOT
from tests.stages.tiny_pipeline import ORDER, make_project, outputs_of, run_stage, start_from

KINDS = ("lora", "adapter", "prefix")
GUESSES = ("chance", "majority")


@pytest.fixture
def tiny_project(project: Path) -> Path:
    make_project(project)
    return project


def run_on_boolq(*stages: str) -> None:
    """Run these stages in the given order on task boolq."""
    for stage in ORDER:
        if stage[0] in stages and "copa" not in stage:
            run_stage(*stage)


def test_the_whole_line_leaves_what_it_should(finished: Path) -> None:
    tune = finished / "outputs/tune/gpt2/boolq"
    assert {path.name for path in tune.iterdir()} == {
        *(f"{kind}-seed0.safetensors" for kind in KINDS),
        "results.json",
        "predictions.jsonl",
    }
    module = PetModule.load(finished / "outputs/bridge/gpt2/copa/lora-seed0.safetensors")
    assert module.layers == {"decoder": (0, 1, 2, 3)}
    assert module.tensors["attn.q.A"].shape == (4, 8, 24)
    rows = read_results(finished / "outputs/evaluate/gpt2/boolq/results.json")
    strategies = [
        (kind, name)
        for kind in KINDS
        for name in ("algorithm1", "scaling", "blockwise_scaling", "proxy_tuning", "auto")
    ]
    assert {(row.method, row.kind, row.strategy) for row in rows} == {
        ("zero_shot", "", ""),
        ("plugged", "", "readout"),
        *(("plugged", *of) for of in strategies if of not in {("prefix", "scaling"), ("prefix", "blockwise_scaling")}),
        *(("random_w_plug", kind, "") for kind in KINDS),
    }
    chosen = json.loads((finished / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())
    assert set(chosen) == {f"{kind}-seed0" for kind in KINDS}
    assert all(of["dev_score"] == max(of["dev_scores"].values()) for of in chosen.values())
    assert all(row.n == 12 for row in rows)
    reported = json.loads((finished / "reports/results.json").read_text())
    scored = [row for row in reported if row["method"] not in GUESSES]
    assert all(0 <= row["ci_low"] <= row["value"] <= row["ci_high"] <= 1 for row in scored)
    methods = {row["method"] for row in reported}
    assert methods == {
        "zero_shot",
        *GUESSES,
        "small_tuned",
        "bridge_alone",
        "plugged",
        "random_w_plug",
        "gradient",
        "full",
    }
    for stage, *instance in ORDER:
        path = finished / "metrics" / Path(stage, *instance).with_suffix(".json")
        assert json.loads(path.read_text())["seconds"] > 0
    assert not any((finished / ".work").rglob("*.safetensors"))


@pytest.mark.slow
def test_no_stage_depends_on_the_random_state_of_the_process(finished: Path, project: Path) -> None:
    start_from(finished, project, [])
    torch.manual_seed(2)  # the project was made with another seed
    for stage in ORDER[:-1]:
        run_stage(*stage)
    assert outputs_of(project / "outputs") == outputs_of(finished / "outputs")


def test_without_references_everything_else_still_runs(finished: Path, project: Path) -> None:
    start_from(
        finished,
        project,
        ["prepare", "derive", "align", "prune", "readout"],
        "reference.methods=[]",
        "kinds=[lora]",
        "tasks=[boolq]",
    )
    run_on_boolq("tune", "reference", "bridge", "evaluate", "similarity", "report")
    rows = json.loads((project / "reports/results.json").read_text())
    methods = {row["method"] for row in rows}
    assert methods == {"zero_shot", *GUESSES, "small_tuned", "bridge_alone", "plugged", "random_w_plug"}
    assert all(row["gap_closed"] is None for row in rows)


def test_without_a_trained_bridge_modules_are_plugged_as_they_were_fitted(finished: Path, project: Path) -> None:
    overrides = [
        "bridge.epochs=0",
        "evaluate.auto=[proxy_tuning]",
        "kinds=[lora]",
        "tasks=[boolq]",
        "reference.methods=[]",
    ]
    start_from(finished, project, ["prepare", "derive", "align", "readout"], *overrides)
    run_on_boolq("tune", "reference", "prune", "bridge", "evaluate", "similarity", "report")
    tuned = PetModule.load(project / "outputs/tune/gpt2/boolq/lora-seed0.safetensors")
    maps = Projection.load(project / "outputs/align/gpt2/maps.safetensors", tuned)
    expected = plugged(tuned, maps, load_pairs(project / "outputs/align/gpt2/layers.json"), divide_by_copies=True)
    found = PetModule.load(project / "outputs/bridge/gpt2/boolq/lora-seed0.safetensors")
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in found.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[name])

    rows = json.loads((project / "reports/results.json").read_text())
    assert "bridge_alone" not in {row["method"] for row in rows}
    assert all(row["seconds"] and row["peak_memory_bytes"] for row in rows if row["method"] == "plugged")
    assert not list((project / "outputs/bridge").rglob("*w_plug*"))
    chosen = json.loads((project / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())["lora-seed0"]
    assert chosen["strategy"] in ("zero_shot", "proxy_tuning")
    assert chosen["among"] == ["zero_shot", "proxy_tuning"]
    assert set(chosen["dev_scores"]) == {
        "zero_shot",
        "algorithm1",
        "scaling",
        "blockwise_scaling",
        "proxy_tuning",
        "readout",
    }
    assert chosen["dev_score"] == max(chosen["dev_scores"][name] for name in chosen["among"])


def test_without_kinds_the_readout_runs_alone(finished: Path, project: Path) -> None:
    """The gradient references of L still run, since they need no module of S."""
    overrides = ["kinds=[]", "tasks=[boolq]", "reference.methods=[lora, adapter]"]
    start_from(finished, project, ["prepare", "derive"], *overrides)
    run_on_boolq(*(stage for stage, *_ in ORDER[2:]))
    rows = json.loads((project / "reports/results.json").read_text())
    found = {(row["method"], row["kind"], row["strategy"]) for row in rows}
    assert found == {
        *((guess, "", "") for guess in GUESSES),
        ("zero_shot", "", ""),
        ("plugged", "", "readout"),
        ("plugged", "", "auto"),
        ("gradient", "lora", ""),
        ("gradient", "adapter", ""),
    }
    assert all(row["seconds"] for row in rows if row["method"] == "plugged" and row["seed"] is not None)
    chosen = json.loads((project / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())
    assert set(chosen["seed0"]["dev_scores"]) == {"zero_shot", "readout"}
    benchmark = (project / "reports/benchmark.md").read_text()
    assert "| gpt2, any kind, beside adapter (readout) |" in benchmark


@pytest.mark.slow
def test_a_killed_stage_resumes_and_ends_as_an_unbroken_one(tiny_project: Path) -> None:
    apply_preset(
        None,
        ["kinds=[lora]", "tasks=[boolq]", "tune.epochs=40", "tune.patience=0", "tune.checkpoint_every=3"],
        tiny_project / "params.yaml",
    )
    run_stage("prepare")
    run_stage("tune", "gpt2", "boolq")
    unbroken = outputs_of(tiny_project / "outputs/tune")
    curve = (tiny_project / "curves/tune/gpt2/boolq.csv").read_text()

    checkpoint = tiny_project / ".work/tune/gpt2/boolq/lora-seed0.safetensors"
    command = [sys.executable, "-m", "gfpet.stages.tune", "gpt2", "boolq"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.exists()

    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "lora-seed0: resumed at step" in again.stderr
    assert outputs_of(tiny_project / "outputs/tune") == unbroken
    assert (tiny_project / "curves/tune/gpt2/boolq.csv").read_text() == curve


@pytest.mark.parametrize("importance", ["magnitude", "fisher"])
@pytest.mark.parametrize("store", ["projected", "recompute"])
def test_other_ways_to_prune_and_to_read_activations(
    finished: Path, project: Path, importance: str, store: str
) -> None:
    overrides = [
        f"prune.importance={importance}",
        f"bridge.activations.store={store}",
        "kinds=[adapter]",
        "tasks=[copa]",
    ]
    start_from(finished, project, ["prepare", "derive", "tune", "align"], *overrides)
    run_stage("prune", "gpt2")
    run_stage("bridge", "gpt2", "copa")
    values = json.loads((project / "metrics/bridge/gpt2/copa.json").read_text())["values"]
    assert (values["activation_cache_bytes"] == 0) == (store == "recompute")
    memory = json.loads((project / "metrics/prune/gpt2.json").read_text())["memory"]
    assert set(memory) == {f"importance-{importance}", "cut"}


def test_rows_and_prefix_that_do_not_fit_the_model_are_refused(tiny_project: Path) -> None:
    from gfpet.errors import ConfigError

    apply_preset(None, ["models.max_length=250"], tiny_project / "params.yaml")
    run_stage("prepare")
    with pytest.raises(ConfigError, match=r"models\.max_length=250 and modules\.prefix\.length=8 .* lower .* to 248"):
        run_stage("tune", "gpt2", "boolq")
