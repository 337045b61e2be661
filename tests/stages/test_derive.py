"""Stage `derive`: a small model made from the large one, and all later stages with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from gfpet.config import apply_preset
from gfpet.errors import ConfigError
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection
from gfpet.results import read_results
from tests.projects import ROOT
from tests.stages.tiny_pipeline import ORDER, SMALL, outputs_of, run_stage
from tests.tiny import save_checkpoint_folder, tiny_llama

LLAMA_ORDER = [tuple(each.replace("gpt2", "llama") for each in stage) for stage in ORDER if "boolq" not in stage]
SETTINGS = [
    *(each.replace("models.gpt2", "models.llama") for each in SMALL if "small.path" not in each),
    "families=[llama]",
    "tasks=[copa]",
    "models.llama.small.path=derive",
    "derive.layers=2",
    "derive.heal.epochs=2",
    "derive.heal.examples=20",
    "prune.heal.epochs=2",
    "prune.heal.examples=20",
    "align.method=identity",
    "align.layer_assignment=derived",
    "tune.epochs=1",
    "reference.epochs=1",
    "bridge.epochs=1",
    "similarity.null_samples=1",
]


@pytest.fixture
def llama(project: Path) -> Path:
    """A project with a tiny large Llama and no small one."""
    save_checkpoint_folder(project / "models" / "large", tiny_llama(24, 4))
    (project / "presets").mkdir(exist_ok=True)
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset(None, SETTINGS, project / "params.yaml")
    return project


@pytest.mark.slow
def test_the_whole_line_runs_with_a_derived_small_model(llama: Path) -> None:
    for stage in LLAMA_ORDER:
        run_stage(*stage)
    folder = llama / "outputs/derive/llama"
    about = json.loads((folder / "source.json").read_text())
    kept = about["kept"]["decoder"]
    assert (about["derived"], about["depths"], len(kept), kept[0]) == (True, {"decoder": 4}, 2, 0)
    values = json.loads((llama / "metrics/derive/llama.json").read_text())["values"]
    changes = [values[f"change/decoder.{block}"] for block in range(4)]
    assert kept[1] == max(range(1, 4), key=lambda block: changes[block])
    assert values["heal/dev_divergence"] > 0
    distilled = json.loads((llama / "metrics/prune/llama.json").read_text())
    assert distilled["values"]["heal/dev_divergence"] > 0
    assert distilled["memory"]["heal"]["steps"] == 2 * 3  # 18 texts, 8 at a time
    assert load_pairs(llama / "outputs/align/llama/layers.json") == {
        "decoder": tuple((block, number) for number, block in enumerate(kept))
    }
    for tensor in Projection.load(llama / "outputs/align/llama/maps.safetensors").named().values():
        assert torch.equal(tensor, torch.eye(tensor.shape[1]).expand_as(tensor))
    plugged = PetModule.load(llama / "outputs/bridge/llama/copa/lora-seed0.safetensors")
    assert dict(plugged.layers) == {"decoder": tuple(kept)}
    rows = read_results(llama / "outputs/evaluate/llama/copa/results.json")
    assert {row.small for row in rows} == {"derive"}
    # The cost of deriving S is part of the method's cost.
    header = next(line for line in (llama / "reports/tables.md").read_text().splitlines() if "| tune |" in line)
    assert "| derive | tune |" in header


@pytest.mark.parametrize("choice", ["cka", "even"])
def test_the_same_inputs_give_the_same_bytes(llama: Path, choice: str) -> None:
    apply_preset(None, [f"derive.choice={choice}", "derive.layers=0.5"], llama / "params.yaml")
    run_stage("prepare")
    run_stage("derive", "llama")
    before = outputs_of(llama / "outputs/derive")
    assert {Path(name).name for name in before} >= {"source.json", "model.safetensors", "config.json", "tokenizer.json"}
    assert json.loads(before["llama/source.json"])["kept"]["decoder"][0] == 0
    torch.manual_seed(3)
    run_stage("derive", "llama")
    assert outputs_of(llama / "outputs/derive") == before


def test_a_small_model_that_is_there_is_only_noted(llama: Path) -> None:
    save_checkpoint_folder(llama / "models" / "small", tiny_llama(16, 2))
    apply_preset(None, ["models.llama.small.path=models/small"], llama / "params.yaml")
    run_stage("derive", "llama")
    assert outputs_of(llama / "outputs/derive") == {
        "llama/source.json": b'{\n "derived": false,\n "path": "models/small",\n "revision": null\n}\n'
    }
    run_stage("prepare")
    with pytest.raises(
        ConfigError, match=r"layer_assignment is 'derived', but models\.llama\.small\.path is models/small"
    ):
        run_stage("align", "llama")
    apply_preset(None, ["align.layer_assignment=stack"], llama / "params.yaml")
    with pytest.raises(ConfigError, match=r"method is 'identity', but 'attn\..* is 16 wide in models/small and 24 in "):
        run_stage("align", "llama")


@pytest.mark.usefixtures("llama")
def test_what_was_not_derived_yet_is_said() -> None:
    run_stage("prepare")
    with pytest.raises(ConfigError, match=r"small\.path is 'derive', but outputs/derive/llama/small is not there; run"):
        run_stage("tune", "llama", "copa")


@pytest.mark.slow
def test_the_line_runs_with_a_large_model_that_lies_on_disk_and_gives_the_same(llama: Path) -> None:
    """Stages that only run L forward give the same results with offloaded weights."""
    forward = [
        stage for stage in LLAMA_ORDER if stage[0] in ("derive", "align", "prune", "bridge", "readout", "evaluate")
    ]
    apply_preset(None, ["kinds=[lora]", "derive.heal.epochs=0", "reference.methods=[]"], llama / "params.yaml")
    run_stage("prepare")
    found = []
    for placement in (["models.llama.large.device_map=single"], ["models.llama.large.device_map=auto", ROOM]):
        apply_preset(None, placement, llama / "params.yaml")
        run_stage("derive", "llama")
        run_stage("tune", "llama", "copa")
        for stage in forward[1:]:
            run_stage(*stage)
        found.append(outputs_of(llama / "outputs"))
    assert found[0] == found[1]


ROOM = "models.llama.large.memory_gb=0.0001"
"""100 kB: room for the embeddings and some blocks."""
