"""`gfpet memory` on models of a few thousand parameters that have only a config.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import GPT2Config
from typer.testing import CliRunner, Result

from flows.cli import app
from gfpet.estimate import OTHERS
from tests.flows.conftest import PROJECT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    shutil.copy(PROJECT / "dvc.yaml", tmp_path)
    shutil.copytree(PROJECT / "presets", tmp_path / "presets")
    for name, width, layers in (("small", 16, 1), ("large", 24, 2)):
        GPT2Config(vocab_size=300, n_positions=64, n_embd=width, n_layer=layers, n_head=2).save_pretrained(
            tmp_path / name
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


PAIR = ("--small", "small", "--large", "large", "--batch", "2", "--length", "16")


def gfpet(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["memory", *arguments], env={"COLUMNS": "160"})


@pytest.mark.slow
def test_predict_gives_every_method_and_its_ratios(project: Path) -> None:
    result = gfpet("estimate", *PAIR, "--workers", "1", "--json", "--report")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    methods = {(each["method"], each["kind"], each["checkpointed"]): each for each in record["methods"]}
    assert len(methods) == len(OTHERS) + 3
    full, lora = methods["full", "", False], methods["lora", "", False]
    peft = min(methods[kind, "", False]["peak"] for kind in ("lora", "adapter", "prefix"))
    for each in methods.values():
        assert each["peak"] == max(each["stages"].values()) == each["stages"][each["highest_stage"]]
        assert sum(each["split"].values()) == each["peak"]
        assert each["ratio_to_full"] == pytest.approx(full["peak"] / each["peak"])
        assert each["ratio_to_best_peft"] == pytest.approx(peft / each["peak"])
        assert each["ratio_to_lora_checkpointed"] == pytest.approx(methods["lora", "", True]["peak"] / each["peak"])
    assert lora["peak"] < full["peak"]
    assert set(methods["gfpet", "adapter", False]["stages"]) == {
        "tune S", "align", "prune", "cache", "bridge", "readout", "infer",
    }  # fmt: skip
    text = (project / "reports" / "memory.md").read_text(encoding="utf-8")
    assert "| gfpet, lora |" in text
    assert (project / "reports" / "memory" / "large.png").stat().st_size > 1000
    assert json.loads((project / "reports" / "memory" / "large.json").read_text(encoding="utf-8")) == record


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_plan_finds_settings_that_fit_or_says_that_there_are_none() -> None:
    easy = gfpet("plan", *PAIR, "--budget", "1GB", "--json")
    assert easy.exit_code == 0, easy.output
    found = json.loads(easy.stdout)
    assert found["set"] == {}
    assert all(stage["fits"] for stage in found["stages"])
    peaks = {stage["stage"]: stage["before"] for stage in found["stages"]}
    budget = f"{peaks['bridge'] * 0.9 / 1000 / 1000:.6f}MB"
    less = gfpet("plan", *PAIR, "--budget", budget, "--json")
    bridge = next(stage for stage in json.loads(less.stdout)["stages"] if stage["stage"] == "bridge")
    assert bridge["after"] < bridge["before"]
    assert bridge["changes"]
    assert bridge["cost"]
    # With most of the helpful settings in place, few remain to try.
    done = ["bridge.gradient_checkpointing=true", "plug.update=low_rank", "bridge.w_down=selection", "prune.factor=64"]
    settings = [part for each in done for part in ("-S", each)]
    none = gfpet("plan", *PAIR, "--batch", "1", *settings, "--budget", "0.001MB")
    assert none.exit_code == 1
    assert "NO" in none.output


@pytest.mark.slow
def test_plan_streams_a_large_model_that_does_not_fit(project: Path) -> None:
    GPT2Config(vocab_size=60, n_positions=64, n_embd=24, n_layer=4, n_head=2).save_pretrained(project / "deep")
    arguments = ("--small", "small", "--large", "deep", "--batch", "1", "--length", "16", "--json")
    before = {
        each["stage"]: each["before"]
        for each in json.loads(gfpet("plan", *arguments, "--budget", "1GB").stdout)["stages"]
    }
    # bfloat16 has halved the weights already; what remains is to offload some of them.
    half = ("-S", "models.gpt2.large.dtype=bfloat16", "--budget", f"{0.4 * before['infer'] / 1e6:.6f}MB")
    found = json.loads(gfpet("plan", *arguments, *half).stdout)
    assert found["set"]["models.gpt2.large.device_map"] == "auto"
    assert 0 < found["set"]["models.gpt2.large.memory_gb"] * 1e9 <= 0.21 * before["infer"]
    infer = next(stage for stage in found["stages"] if stage["stage"] == "infer")
    assert infer["after"] < infer["before"]
    assert any("reads blocks from disk" in cost for cost in infer["cost"])
    assert found["set"]["reference.methods"] == []
    # Quantisation was not enough, and offloaded weights are not quantised.
    assert found["set"].get("models.gpt2.large.quantisation", "none") == "none"
    assert not any("rounded to 8 bits" in cost for stage in found["stages"] for cost in stage["cost"])


@pytest.mark.slow
def test_plan_rounds_a_large_model_that_then_fits(project: Path) -> None:
    pytest.importorskip("bitsandbytes")
    GPT2Config(vocab_size=60, n_positions=64, n_embd=512, n_layer=2, n_head=2).save_pretrained(project / "wide")
    arguments = ("--small", "small", "--large", "wide", "--batch", "1", "--length", "16", "--json")
    half = ("-S", "models.gpt2.large.dtype=bfloat16", "-S", "reference.methods=[full, lora]")
    found = json.loads(gfpet("plan", *arguments, *half, "--budget", "30MB").stdout)
    assert found["set"]["models.gpt2.large.quantisation"] == "int8"
    assert "models.gpt2.large.device_map" not in found["set"]
    assert found["set"]["reference.methods"] == ["lora"]
    align = next(stage for stage in found["stages"] if stage["stage"] == "align")
    weights = 2 * 12 * 512**2
    assert align["after"] < 30e6 < align["before"] < align["after"] + weights
    assert any("rounded to 8 bits" in cost for cost in align["cost"])


def test_profile_names_modules(project: Path) -> None:
    result = gfpet("profile", "bridge", *PAIR, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["peak"] == sum(part["bytes"] for part in found["parts"])
    assert any(part["module"].startswith("transformer.h.") for part in found["parts"])
    assert (project / "reports" / "memory" / "profile-large-bridge-lora.png").is_file()


@pytest.mark.usefixtures("project")
def test_errors_are_told() -> None:
    assert "give a number and a unit: 24GB" in gfpet("plan", *PAIR, "--budget", "lots").output
    assert (
        "unknown model 'openai-community/gpt2-xxl'" in gfpet("estimate", "--large", "openai-community/gpt2-xxl").output
    )
    assert "unknown stage to profile 'brige'" in gfpet("profile", "brige", *PAIR).output
