"""All stage programs, one after the other, on tiny untrained models: what each leaves, and that luck has no part."""

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
from tests.stages.conftest import ROOT
from tests.tiny import save_checkpoint_folder, tiny_gpt2

SMALL = [
    "tasks=[boolq,copa]",
    "prepare.train_size=24",
    "prepare.dev_size=8",
    "prepare.eval_size=12",
    "models.max_length=200",
    "models.gpt2.small.path=models/small",
    "models.gpt2.large.path=models/large",
    "tune.epochs=2",
    "tune.batch_size=8",
    "reference.epochs=2",
    "reference.batch_size=8",
    "bridge.epochs=2",
    "bridge.batch_size=8",
    "readout.epochs=2",
    "readout.batch_size=8",
    "align.examples=16",
    "prune.examples=8",
    "similarity.examples=8",
    "similarity.null_samples=2",
    "evaluate.scales=[2.0]",
    "evaluate.strategies=[algorithm1, scaling, blockwise_scaling, proxy_tuning, readout, auto]",
    "evaluate.auto=[algorithm1, scaling, blockwise_scaling, proxy_tuning, readout]",
    "evaluate.blockwise_scaling.steps=2",
    "report.resamples=50",
]
ORDER = [
    ("prepare",),
    ("derive", "gpt2"),
    ("tune", "gpt2", "boolq"),
    ("tune", "gpt2", "copa"),
    ("reference", "gpt2", "boolq"),
    ("reference", "gpt2", "copa"),
    ("align", "gpt2"),
    ("prune", "gpt2"),
    ("bridge", "gpt2", "boolq"),
    ("bridge", "gpt2", "copa"),
    ("readout", "gpt2", "boolq"),
    ("readout", "gpt2", "copa"),
    ("evaluate", "gpt2", "boolq"),
    ("evaluate", "gpt2", "copa"),
    ("similarity", "gpt2"),
    ("report",),
]
KINDS = ("lora", "adapter", "prefix")
GUESSES = ("chance", "majority")


def make_project(folder: Path, *overrides: str) -> None:
    """Tiny models, params that fit them; the folder must be the current one."""
    (folder / "presets").mkdir(exist_ok=True)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    save_checkpoint_folder(folder / "models" / "small", tiny_gpt2(16, 2, positions=256))
    save_checkpoint_folder(folder / "models" / "large", tiny_gpt2(24, 4, heads=3, positions=256))
    apply_preset(None, [*SMALL, *overrides], folder / "params.yaml")


def run_stage(stage: str, *arguments: str) -> None:
    """The stage program in this process, as `python -m gfpet.stages.<stage>` would."""
    import importlib

    program = importlib.import_module(f"gfpet.stages.{stage}")
    name = {"pretrain": "pretrain_pair"}.get(stage, stage)
    getattr(program, name)(*arguments)


def outputs_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def tiny_project(project: Path) -> Path:
    make_project(project)
    return project


@pytest.mark.slow
def test_the_whole_line_runs_and_leaves_what_it_should(tiny_project: Path) -> None:
    apply_preset(None, ["reference.methods=[full, lora, adapter, prefix]"], tiny_project / "params.yaml")
    torch.manual_seed(1)
    for stage in ORDER:
        run_stage(*stage)

    tune = tiny_project / "outputs/tune/gpt2/boolq"
    assert {path.name for path in tune.iterdir()} == {
        *(f"{kind}-seed0.safetensors" for kind in KINDS),
        "results.json",
        "predictions.jsonl",
    }
    module = PetModule.load(tiny_project / "outputs/bridge/gpt2/copa/lora-seed0.safetensors")
    assert module.layers == {"decoder": (0, 1, 2, 3)}
    assert module.tensors["attn.q.A"].shape == (4, 8, 24)
    rows = read_results(tiny_project / "outputs/evaluate/gpt2/boolq/results.json")
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
    chosen = json.loads((tiny_project / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())
    assert set(chosen) == {f"{kind}-seed0" for kind in KINDS}
    assert all(of["dev_score"] == max(of["dev_scores"].values()) for of in chosen.values())
    assert all(row.n == 12 for row in rows)
    reported = json.loads((tiny_project / "reports/results.json").read_text())
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
        path = tiny_project / "metrics" / Path(stage, *instance).with_suffix(".json")
        assert json.loads(path.read_text())["seconds"] > 0
    assert not any((tiny_project / ".work").rglob("*.safetensors"))

    before = outputs_of(tiny_project / "outputs")
    torch.manual_seed(2)  # no stage may depend on the process's own random state
    for stage in ORDER[:-1]:
        run_stage(*stage)
    assert outputs_of(tiny_project / "outputs") == before


@pytest.mark.slow
def test_without_references_everything_else_still_runs(tiny_project: Path) -> None:
    apply_preset(None, ["reference.methods=[]", "kinds=[lora]", "tasks=[boolq]"], tiny_project / "params.yaml")
    for stage in ORDER:
        if "copa" not in stage:
            run_stage(*stage)
    rows = json.loads((tiny_project / "reports/results.json").read_text())
    methods = {row["method"] for row in rows}
    assert methods == {"zero_shot", *GUESSES, "small_tuned", "bridge_alone", "plugged", "random_w_plug"}
    assert all(row["gap_closed"] is None for row in rows)


@pytest.mark.slow
def test_without_a_trained_bridge_modules_are_plugged_as_they_were_fitted(tiny_project: Path) -> None:
    overrides = [
        "bridge.epochs=0",
        "evaluate.auto=[proxy_tuning]",
        "kinds=[lora]",
        "tasks=[boolq]",
        "reference.methods=[]",
    ]
    apply_preset(None, overrides, tiny_project / "params.yaml")
    for stage in ORDER:
        if "copa" not in stage:
            run_stage(*stage)
    tuned = PetModule.load(tiny_project / "outputs/tune/gpt2/boolq/lora-seed0.safetensors")
    maps = Projection.load(tiny_project / "outputs/align/gpt2/maps.safetensors", tuned)
    expected = plugged(tuned, maps, load_pairs(tiny_project / "outputs/align/gpt2/layers.json"), divide_by_copies=True)
    found = PetModule.load(tiny_project / "outputs/bridge/gpt2/boolq/lora-seed0.safetensors")
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in found.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[name])

    rows = json.loads((tiny_project / "reports/results.json").read_text())
    assert "bridge_alone" not in {row["method"] for row in rows}
    assert all(row["seconds"] and row["peak_memory_bytes"] for row in rows if row["method"] == "plugged")
    assert not list((tiny_project / "outputs/bridge").rglob("*w_plug*"))
    chosen = json.loads((tiny_project / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())["lora-seed0"]
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


@pytest.mark.slow
def test_without_kinds_the_direct_write_runs_alone(tiny_project: Path) -> None:
    """Beside what L reaches with modules by gradients, which are not S's."""
    apply_preset(None, ["kinds=[]", "tasks=[boolq]", "reference.methods=[lora, adapter]"], tiny_project / "params.yaml")
    for stage in ORDER:
        if "copa" not in stage:
            run_stage(*stage)
    rows = json.loads((tiny_project / "reports/results.json").read_text())
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
    chosen = json.loads((tiny_project / "outputs/evaluate/gpt2/boolq/chosen.json").read_text())
    assert set(chosen["seed0"]["dev_scores"]) == {"zero_shot", "readout"}
    benchmark = (tiny_project / "reports/benchmark.md").read_text()
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
def test_other_ways_to_prune_and_to_read_activations(tiny_project: Path, importance: str, store: str) -> None:
    overrides = [
        f"prune.importance={importance}",
        f"bridge.activations.store={store}",
        "kinds=[adapter]",
        "tasks=[copa]",
    ]
    apply_preset(None, overrides, tiny_project / "params.yaml")
    for stage in [
        ("prepare",),
        ("derive", "gpt2"),
        ("tune", "gpt2", "copa"),
        ("align", "gpt2"),
        ("prune", "gpt2"),
        ("bridge", "gpt2", "copa"),
    ]:
        run_stage(*stage)
    values = json.loads((tiny_project / "metrics/bridge/gpt2/copa.json").read_text())["values"]
    assert (values["activation_cache_bytes"] == 0) == (store == "recompute")
    memory = json.loads((tiny_project / "metrics/prune/gpt2.json").read_text())["memory"]
    assert set(memory) == {f"importance-{importance}", "cut"}


def test_rows_and_prefix_that_do_not_fit_the_model_are_refused(tiny_project: Path) -> None:
    from gfpet.errors import ConfigError

    apply_preset(None, ["models.max_length=250"], tiny_project / "params.yaml")
    run_stage("prepare")
    with pytest.raises(ConfigError, match=r"models\.max_length=250 and modules\.prefix\.length=8 .* lower .* to 248"):
        run_stage("tune", "gpt2", "boolq")
