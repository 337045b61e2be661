"""All stage programs on tiny untrained T5 models: their outputs, over both stacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from gfpet.config import apply_preset
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.results import read_results
from gfpet.synthetic.tokenizer import build_tokenizer
from tests.projects import ROOT
from tests.stages.tiny_pipeline import ORDER, SMALL, run_stage
from tests.tiny_t5 import tiny_t5

T5_ORDER = [tuple(each.replace("gpt2", "t5") for each in stage) for stage in ORDER if "boolq" not in stage]


def save_models(folder: Path) -> None:
    tokenizer = build_tokenizer()
    for name, model in (
        ("small", tiny_t5(16, (1, 2), version="1.1")),
        ("large", tiny_t5(24, (2, 4), heads=4, version="1.1", seed=1)),
    ):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone() * 0.5)
        model.config.update({"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id})
        model.config.decoder_start_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder / "models" / name)
        tokenizer.save_pretrained(folder / "models" / name)


@pytest.mark.slow
def test_the_whole_line_runs_over_both_stacks(project: Path) -> None:
    """Version 1.1, with a gated feed-forward layer and a separate output head."""
    save_models(project)
    settings = [each.replace("models.gpt2", "models.t5") for each in SMALL]
    settings += [
        "families=[t5]",
        "tasks=[copa]",
        "modules.lora.target_modules=[attn.q, cross.v, mlp.gate]",
        "models.max_length=64",
        "tune.epochs=1",
        "reference.epochs=1",
        "bridge.epochs=1",
        "similarity.null_samples=1",
    ]
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset(None, settings, project / "params.yaml")
    for stage in T5_ORDER:
        run_stage(*stage)
    assert load_pairs(Path("outputs/align/t5/layers.json")) == {
        "encoder": ((0, 0), (1, 0)),
        "decoder": ((0, 0), (1, 0), (2, 1), (3, 1)),
    }
    plugged = PetModule.load(Path("outputs/bridge/t5/copa/lora-seed0.safetensors"))
    assert plugged.layers == {"encoder": (0, 1), "decoder": (0, 1, 2, 3)}
    assert plugged.tensors["decoder.cross.v.A"].shape == (4, 8, 24)
    assert "encoder.mlp.gate.B" in plugged.tensors
    prefix = PetModule.load(Path("outputs/bridge/t5/copa/prefix-seed0.safetensors"))
    assert prefix.tensors["encoder.attn.k.prefix"].shape == (2, 8, 16)
    methods = {(row.method, row.kind) for row in read_results(Path("outputs/evaluate/t5/copa/results.json"))}
    assert {("zero_shot", ""), ("plugged", "prefix"), ("random_w_plug", "adapter")} <= methods
    rows = json.loads(Path("outputs/similarity/t5/similarity.json").read_text())["rows"]
    effects = next(row["heatmap"] for row in rows if row["measure"] == "rsa" and row["kind"] == "lora")
    known = [[cell is not None for cell in line] for line in effects]
    # One block of S's encoder with two of L's; two of S's decoder with four of L's; none between stacks.
    assert known == [[True, True, *[False] * 4], *[[False, False, *[True] * 4]] * 2]
    assert json.loads(Path("metrics/bridge/t5/copa.json").read_text())["values"]["activation_cache_bytes"] > 0
    assert Path("reports/similarity-t5-lora.png").is_file()
