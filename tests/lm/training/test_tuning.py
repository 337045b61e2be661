"""Tuning a module or a whole model: it learns, resumes, and changes nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gfpet.errors import ModuleError
from gfpet.lm import registry
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import inserted, trained_tensors
from gfpet.lm.scoring import Split, backbone_of, head_of, load_task, pad_token, predict, task_score
from gfpet.lm.training import Hooks, Settings, start_module, tune_all, tune_module
from tests.tiny import END, KIND_NAMES, ByteTokenizer, encoded, learnable, tiny_loaded, tiny_options, tiny_task

OPTIONS = {kind: tiny_options(kind) for kind in KIND_NAMES} | {
    "lora": {"rank": 2, "alpha": 4.0, "target_modules": ("attn.q", "attn.v")},
    "prefix": {"length": 3},
}
SETTINGS = Settings(epochs=2, batch_size=4, checkpoint_every=1)


def test_a_prefix_starts_as_the_keys_and_values_of_the_longest_text() -> None:
    loaded, data = tiny_loaded(), tiny_task()
    rows = list(data.train.examples)
    rows[3] = replace(rows[3], context="abcdefgh")
    data = replace(data, train=Split(rows, encoded(rows)))
    module = start_module("prefix", loaded, {"length": 8}, data, seed=0)
    block = loaded.model.transformer.h[0]
    ids = torch.tensor(list(b"abcdefgh"))
    states = loaded.model.transformer.wte(ids) + loaded.model.transformer.wpe(torch.arange(8))
    _, key, value = block.attn.c_attn(block.ln_1(states)).chunk(3, dim=-1)
    assert torch.allclose(module.tensors["attn.k.prefix"][0], key, atol=1e-6)
    assert torch.allclose(module.tensors["attn.v.prefix"][0], value, atol=1e-6)
    with pytest.raises(ModuleError, match=r"has 8 tokens; modules\.prefix\.length=9"):
        start_module("prefix", loaded, {"length": 9}, data, seed=0)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_starts_depend_on_the_seed_alone(kind: str) -> None:
    loaded, data = tiny_loaded(), tiny_task()
    one, two, other = (start_module(kind, loaded, OPTIONS[kind], data, seed=seed).tensors for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    if registry.KINDS[kind].positions is None:  # kinds with positions start from text, not from random values
        assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_module_is_tuned_and_its_model_is_not(kind: str, gradient_checkpointing: bool) -> None:
    loaded, data = tiny_loaded(), tiny_task()
    weights = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    start = start_module(kind, loaded, OPTIONS[kind], data, seed=0)
    untouched = start.detached()
    losses: list[float] = []

    def log(series: str, _: int, value: float) -> None:
        if series == "loss":
            losses.append(value)

    tuned, outcome = tune_module(
        loaded, start, data, replace(SETTINGS, epochs=6), learning_rate=0.05, seed=0,
        gradient_checkpointing=gradient_checkpointing, hooks=Hooks(log=log),
    )  # fmt: skip
    assert outcome.steps == 18
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert all(torch.equal(weight, weights[name]) for name, weight in loaded.model.named_parameters())
    assert all(not weight.requires_grad and weight.grad is None for weight in loaded.model.parameters())
    assert all(torch.equal(start.tensors[name], untouched.tensors[name]) for name in start.tensors)
    changed = {name for name in tuned.tensors if not torch.equal(tuned.tensors[name], start.tensors[name])}
    assert changed == set(trained_tensors(start))
    assert not any(tensor.requires_grad for tensor in tuned.tensors.values())
    with inserted(loaded.model, GPT2, tuned):
        predictions = predict(
            data.dev.encoded, backbone_of(loaded.model, GPT2), head_of(loaded.model), batch_size=4, pad=END
        )
    assert task_score("rte", data.dev.examples, predictions.choices) == outcome.best_score
    assert predictions.loss == pytest.approx(outcome.best_loss, abs=1e-6)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_checkpointing_tunes_to_the_same_module(kind: str) -> None:
    tuned = []
    for checkpointing in (False, True):
        loaded, data = tiny_loaded(), tiny_task()
        start = start_module(kind, loaded, OPTIONS[kind], data, seed=0)
        module, _ = tune_module(
            loaded, start, data, SETTINGS, learning_rate=0.01, seed=0, gradient_checkpointing=checkpointing
        )
        tuned.append(module.tensors)
    assert all(torch.allclose(tuned[0][name], tuned[1][name], atol=1e-6) for name in tuned[0])


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_an_interrupted_tuning_ends_with_the_same_module(kind: str, tmp_path: Path) -> None:
    loaded, data = tiny_loaded(), tiny_task()
    start = start_module(kind, loaded, OPTIONS[kind], data, seed=0)
    expected, outcome = tune_module(loaded, start, data, SETTINGS, learning_rate=0.01, seed=0)

    def stop(series: str, step: int, _: float) -> None:
        if (series, step) == ("loss", 5):
            raise KeyboardInterrupt

    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        tune_module(loaded, start, data, SETTINGS, learning_rate=0.01, seed=0, hooks=Hooks(checkpoint=file, log=stop))
    module, again = tune_module(loaded, start, data, SETTINGS, learning_rate=0.01, seed=0, hooks=Hooks(checkpoint=file))
    assert again == replace(outcome, resumed_at=4)
    assert all(torch.equal(module.tensors[name], expected.tensors[name]) for name in module.tensors)


def test_full_tuning_trains_every_weight_once_and_resumes(tmp_path: Path) -> None:
    data = tiny_task()
    whole, broken = tiny_loaded(), tiny_loaded()
    before = {name: weight.clone() for name, weight in whole.model.named_parameters()}
    outcome = tune_all(whole, data, SETTINGS, learning_rate=0.01, seed=0)
    assert whole.model.lm_head.weight is whole.model.transformer.wte.weight
    changed = {name for name, weight in whole.model.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == set(before)
    assert not any(weight.requires_grad for weight in whole.model.parameters())

    def stop(series: str, step: int, _: float) -> None:
        if (series, step) == ("loss", 4):
            raise KeyboardInterrupt

    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        tune_all(broken, data, SETTINGS, learning_rate=0.01, seed=0, hooks=Hooks(checkpoint=file, log=stop))
    fresh = tiny_loaded()
    again = tune_all(
        fresh, data, SETTINGS, learning_rate=0.01, seed=0, gradient_checkpointing=False, hooks=Hooks(checkpoint=file)
    )
    assert again == replace(outcome, resumed_at=3)
    for name, weight in fresh.model.named_parameters():
        assert torch.equal(weight, whole.model.get_parameter(name)), name


def test_full_tuning_with_checkpointing_is_the_same() -> None:
    one, two, data = tiny_loaded(), tiny_loaded(), tiny_task()
    tune_all(one, data, SETTINGS, learning_rate=0.01, seed=0)
    tune_all(two, data, SETTINGS, learning_rate=0.01, seed=0, gradient_checkpointing=True)
    for name, weight in two.model.named_parameters():
        assert torch.allclose(weight, one.model.get_parameter(name), atol=1e-5), name


def test_a_task_is_read_from_its_folder(tmp_path: Path) -> None:
    from gfpet.data.examples import write_examples

    for number, name in enumerate(("train", "dev", "eval")):
        write_examples(tmp_path / f"{name}.jsonl", learnable(4 + number, number))
    data = load_task(tmp_path, "rte", ByteTokenizer(), max_length=20)
    assert (len(data.train), len(data.dev), len(data.eval), data.pad) == (4, 5, 6, END)
    assert data.train.encoded == encoded(learnable(4, 0))
    assert data.eval.first(2).examples == learnable(6, 2)[:2]
    assert len(data.eval.first(2).encoded) == 2


def test_the_padding_token_is_the_tokenizers_own_if_it_has_one() -> None:
    tokenizer = ByteTokenizer()
    assert pad_token(tokenizer) == END
    tokenizer.pad_token_id = 0  # type: ignore[assignment]
    assert pad_token(tokenizer) == 0
