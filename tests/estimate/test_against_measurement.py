"""Peaks estimated under fake tensors against peaks measured with real ones, for every method and stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, T5Config

from gfpet.config import Params, with_values
from gfpet.errors import ConfigError
from gfpet.estimate import (
    OTHERS,
    Method,
    Peaks,
    Shape,
    Workload,
    derived_shape,
    kind_stages,
    profile_stage,
    run_method,
    shared_stages,
)

pytestmark = pytest.mark.slow

WORK = Workload(2, 24, torch.device("cpu"))
SMALL = Shape("small", "gpt2", GPT2Config(vocab_size=300, n_positions=32, n_embd=32, n_layer=2, n_head=2))
LARGE = Shape("large", "gpt2", GPT2Config(vocab_size=300, n_positions=32, n_embd=48, n_layer=4, n_head=4))
BATCHES = {f"{section}.batch_size": 2 for section in ("tune", "bridge", "align", "prune", "evaluate")}
PLAIN = with_values(Params(), BATCHES)
LEAN = with_values(
    PLAIN,
    {
        "tune.gradient_checkpointing": True,
        "bridge.gradient_checkpointing": True,
        "bridge.activations.store": "projected",
        "bridge.w_down": "selection",
        "plug.update": "low_rank",
        "align.budget_gb": 0.0001,
        "models.gpt2.large.dtype": "bfloat16",
    },
)
STREAMED = with_values(
    PLAIN,
    {
        "reference.methods": [],
        "models.gpt2.large.device_map": "auto",
        "models.gpt2.large.memory_gb": 0.0003,  # room for the embeddings and one block; three more are on disk
    },
)
TOLERANCE = 0.05


def _compare(estimated: Peaks, measured: Peaks) -> None:
    assert estimated.keys() == measured.keys()
    for stage, reading in measured.items():
        assert reading.cpu_live_peak_bytes is not None
        assert estimated[stage].cpu_live_peak_bytes == pytest.approx(reading.cpu_live_peak_bytes, rel=TOLERANCE), stage


@pytest.mark.parametrize("method", OTHERS, ids=lambda method: method.title)
def test_the_methods_that_ours_is_compared_with(method: Method, tmp_path: Path) -> None:
    estimated = run_method(method, LARGE, WORK, PLAIN)
    _compare(estimated, run_method(method, LARGE, replace(WORK, real=tmp_path), PLAIN))


@pytest.mark.parametrize("params", [PLAIN, LEAN], ids=["plain", "lean"])
@pytest.mark.parametrize("kind", ["lora", "adapter", "prefix"])
def test_stages_of_a_kind(kind: str, params: Params, tmp_path: Path) -> None:
    estimated = kind_stages(kind, SMALL, LARGE, WORK, params)
    _compare(estimated, kind_stages(kind, SMALL, LARGE, replace(WORK, real=tmp_path), params))


@pytest.mark.parametrize("importance", ["activation", "magnitude", "fisher"])
@pytest.mark.parametrize("params", [PLAIN, LEAN], ids=["plain", "lean"])
def test_stages_that_kinds_share(importance: str, params: Params, tmp_path: Path) -> None:
    params = with_values(params, {"prune.importance": importance})
    estimated = shared_stages(SMALL, LARGE, WORK, params)
    _compare(estimated, shared_stages(SMALL, LARGE, replace(WORK, real=tmp_path), params))


def test_stages_with_blocks_of_the_large_model_on_disk(tmp_path: Path) -> None:
    real = replace(WORK, real=tmp_path)
    estimated = shared_stages(SMALL, LARGE, WORK, STREAMED) | kind_stages("lora", SMALL, LARGE, WORK, STREAMED)
    measured = shared_stages(SMALL, LARGE, real, STREAMED) | kind_stages("lora", SMALL, LARGE, real, STREAMED)
    _compare(estimated, measured)
    whole = kind_stages("lora", SMALL, LARGE, WORK, PLAIN, only=["infer"])["infer"]
    block = 12 * 48**2 * 4
    assert whole.cpu_live_peak_bytes - estimated["infer"].cpu_live_peak_bytes > 2 * block


@pytest.mark.parametrize(("choice", "layers"), [("angular", 2), ("cka", 2), ("even", 2), ("even", 4)])
def test_a_small_model_made_of_the_large_one(choice: str, layers: int, tmp_path: Path) -> None:
    changes = {"models.gpt2.small.path": "derive", "derive.choice": choice, "derive.layers": layers}
    params = with_values(PLAIN, changes | {"derive.heal.epochs": 1, "derive.heal.batch_size": 2})
    small = derived_shape(LARGE, params)
    assert small.config.n_layer == layers
    estimated, measured = (
        shared_stages(small, LARGE, each, params, only=["derive"]) for each in (WORK, replace(WORK, real=tmp_path))
    )
    _compare(estimated, measured)
    if choice == "even":  # otherwise comparing all of L's blocks takes more, at this size
        of_small = 12 * layers * small.config.n_embd**2 * 4
        assert estimated["derive"].cpu_live_split["optimizer"] >= 2 * of_small


def test_a_bridge_that_the_large_model_is_distilled_into(tmp_path: Path) -> None:
    params = with_values(PLAIN, {"prune.heal.epochs": 1, "prune.heal.batch_size": 2})
    estimated, measured = (
        shared_stages(SMALL, LARGE, each, params, only=["prune"]) for each in (WORK, replace(WORK, real=tmp_path))
    )
    _compare(estimated, measured)
    without = shared_stages(SMALL, LARGE, WORK, PLAIN, only=["prune"])["prune"].cpu_live_peak_bytes
    assert without is not None
    assert estimated["prune"].cpu_live_peak_bytes > without


def test_without_a_trained_bridge_neither_it_nor_a_cache_takes_anything() -> None:
    params = with_values(PLAIN, {"bridge.epochs": 0})
    assert set(shared_stages(SMALL, LARGE, WORK, params, only=["prune", "cache"])) == {"prune"}
    assert set(kind_stages("lora", SMALL, LARGE, WORK, params, only=["bridge", "infer"])) == {"infer"}
    with pytest.raises(ConfigError, match=r"bridge\.epochs is 0"):
        profile_stage("bridge", "lora", SMALL, LARGE, WORK, params)


def test_one_map_for_all_layers_takes_less_than_one_for_each(tmp_path: Path) -> None:
    peaks = {}
    for sharing in ("per_layer", "shared"):
        params = with_values(PLAIN, {"plug.sharing": sharing})
        estimated, measured = (
            kind_stages("lora", SMALL, LARGE, each, params, only=["bridge"])
            for each in (WORK, replace(WORK, real=tmp_path))
        )
        _compare(estimated, measured)
        peaks[sharing] = estimated["bridge"].cpu_live_peak_bytes, measured["bridge"].cpu_live_peak_bytes
    # Q and P of two target modules for one layer instead of four: the weights, and AdamW's two values for each.
    maps = 3 * 3 * 2 * 2 * 32 * 48 * 4
    for per_layer, shared in zip(peaks["per_layer"], peaks["shared"], strict=True):
        assert per_layer - shared >= maps


def test_maps_have_offsets_only_where_stage_align_leaves_some() -> None:
    def bridge(**changes: str | bool) -> int:
        params = with_values(PLAIN, {name.replace("__", "."): value for name, value in changes.items()})
        peak = kind_stages("lora", LARGE, LARGE, WORK, params, only=["bridge"])["bridge"].cpu_live_peak_bytes
        assert peak is not None
        return peak

    plain = bridge(align__centre=False)
    assert bridge(align__method="identity") == plain
    # Other methods have read and write offsets of two target modules in four layers.
    assert bridge(align__method="ridge") == plain + 2 * 2 * 4 * 48 * 4
    # Random maps have no offsets.
    assert bridge(plug__initialisation="random") == plain


QUANTISED = {
    "gpt2": LARGE.config,
    "llama": LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    ),
    "t5": T5Config(vocab_size=300, d_model=64, d_kv=16, d_ff=96, num_layers=3, num_heads=4),
}


@pytest.mark.parametrize(("family", "bits"), [("gpt2", "int8"), ("t5", "int8"), ("llama", "int4")])
def test_stages_with_the_large_model_in_few_bits(family: str, bits: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    shape, real = Shape(family, family, QUANTISED[family]), replace(WORK, real=tmp_path)
    params = with_values(PLAIN, {f"models.{family}.large.quantisation": bits})
    estimated, measured = (
        shared_stages(shape, shape, each, params, only=["prune", "cache"])
        | kind_stages("lora", shape, shape, each, params, only=["infer"])
        for each in (WORK, real)
    )
    _compare(estimated, measured)
    whole = kind_stages("lora", shape, shape, WORK, PLAIN, only=["infer"])["infer"]
    assert estimated["infer"].cpu_live_split["weights"] < 0.7 * whole.cpu_live_split["weights"]
