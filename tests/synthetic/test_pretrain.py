"""Pretraining of a model with a few thousand parameters, and the committed checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel

from gfpet.synthetic.causal import POSITIONS, packed
from gfpet.synthetic.pretrain import PAIRS, Point, Recipe, Shape, pretrain, rate_at
from gfpet.synthetic.tokenizer import build_tokenizer

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints" / "gpt2"
TINY = Shape(width=16, layers=1, heads=1)
BRIEF = Recipe(steps=30, batch=4, length=32, warmup=5)


def test_it_learns_and_what_it_saves_loads(tmp_path: Path) -> None:
    seen: list[Point] = []
    curve = pretrain("gpt2", "small", tmp_path / "model", TINY, BRIEF, report=seen.append, every=10)
    assert [point.step for point in curve] == [10, 20, 30]
    assert seen == curve
    assert curve[-1].loss < curve[0].loss
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.n_embd == TINY.width
    assert model.config.vocab_size == len(tokenizer)
    assert {file.suffix for file in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        pretrain("gpt2", "small", tmp_path / name, TINY, replace(BRIEF, steps=3, seed=seed))
    first, again, other = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "again", "other"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_packed_batches_lose_no_token() -> None:
    tokenizer = build_tokenizer()
    small = torch.cat([batch.flatten() for batch in islice(packed(tokenizer, 2, 32, 0), 12)])
    large = torch.cat([batch.flatten() for batch in islice(packed(tokenizer, 4, 64, 0), 3)])
    assert torch.equal(small, large)
    assert tokenizer.eos_token_id in small


def test_the_rate_warms_up_and_falls() -> None:
    recipe = Recipe(steps=100, batch=1, warmup=10, rate=1.0)
    rates = [rate_at(step, recipe) for step in range(100)]
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.fixture(scope="module")
def committed() -> dict[str, GPT2LMHeadModel]:
    return {size: AutoModelForCausalLM.from_pretrained(CHECKPOINTS / size) for size in PAIRS["gpt2"].shapes}


def test_committed_checkpoints_have_the_documented_shapes(committed: dict[str, GPT2LMHeadModel]) -> None:
    for size, shape in PAIRS["gpt2"].shapes.items():
        config = committed[size].config
        assert (config.n_embd, config.n_layer, config.n_head) == (shape.width, shape.layers, shape.heads)
        assert config.n_positions == POSITIONS
        assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0, 0, 0)
    small, large = committed["small"], committed["large"]
    assert small.config.n_embd != large.config.n_embd
    assert small.config.n_layer != large.config.n_layer
    assert 0.1e6 <= small.num_parameters() <= 0.3e6
    assert 0.9e6 <= large.num_parameters() <= 4e6
    assert all(weight.dtype == torch.float32 for model in committed.values() for weight in model.parameters())


def test_committed_checkpoints_are_small_and_hold_no_pickle() -> None:
    files = [file for file in CHECKPOINTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_committed_checkpoints_share_the_tokenizer_that_the_builder_makes() -> None:
    built = json.loads(build_tokenizer().backend_tokenizer.to_str())
    for size in PAIRS["gpt2"].shapes:
        assert json.loads((CHECKPOINTS / size / "tokenizer.json").read_text(encoding="utf-8")) == built
        assert len(AutoTokenizer.from_pretrained(CHECKPOINTS / size)) == len(build_tokenizer())


def test_committed_checkpoints_know_the_language(committed: dict[str, GPT2LMHeadModel]) -> None:
    """The loss is below 1.5 nats per token on text of another seed; guessing is above 6."""
    tokenizer = build_tokenizer()
    batches = packed(tokenizer, 8, 128, seed=1)
    ids = next(batches)
    for model in committed.values():
        with torch.no_grad():
            assert model(input_ids=ids, labels=ids).loss.item() < 1.6
