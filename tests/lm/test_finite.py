"""Non-finite values raise an error where they occur; the message names the value and the cause."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfpet.errors import ModuleError, NumberError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.finite import is_finite, require_finite
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import Batch, backbone_of, head_of, predict
from gfpet.lm.tensor_file import load_tensors, save_tensors
from gfpet.lm.training import Group, Hooks, Settings, train
from gfpet.method.activation_cache import ActivationCache, Plan, row_lengths
from gfpet.method.align._moments import Moments, map_of
from tests.tiny import END, VERBALIZER, encoded, learnable, tiny_gpt2

BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
def test_one_value_is_enough(bad: float) -> None:
    values = torch.ones(3, 4)
    assert is_finite(values)
    assert is_finite(torch.empty(0))
    assert is_finite(torch.tensor([1, 2]))
    values[2, 1] = bad
    assert not is_finite(values)
    with pytest.raises(NumberError, match=r"the maps: 1 of 2 tensors hold NaN .* 'b' \(float32\)\. Check the"):
        require_finite({"a": torch.ones(2), "b": values}, "the maps")


def test_float16_gets_its_own_advice() -> None:
    with pytest.raises(NumberError, match=r"float16 holds at most 65504.*bfloat16"):
        require_finite({"h": torch.tensor([7e4]).half()}, "states")


@pytest.mark.parametrize("bad", BAD)
def test_scores_of_some_examples_that_are_not_finite_are_an_error(bad: float) -> None:
    model, rows = tiny_gpt2(), encoded(VERBALIZER)
    plain = backbone_of(model, GPT2)

    def backbone(batch: Batch) -> Tensor:
        hidden = plain(batch).clone()
        for place, number in enumerate(batch.row_numbers):
            if number in (1, 4):
                hidden[place] = bad
        return hidden

    with pytest.raises(NumberError, match=r"2 of 6 examples have scores that are not finite, the first is number 1,"):
        predict(rows, backbone, head_of(model), batch_size=4, pad=END)


def test_files_hold_finite_values_only(tmp_path: Path) -> None:
    path, about = tmp_path / "module.safetensors", {"format": "f"}
    with pytest.raises(NumberError, match=r"module\.safetensors was not written: 1 of 1 tensors"):
        save_tensors(path, {"A": torch.tensor([math.nan])}, about)
    assert not path.exists()
    save_tensors(path, {"A": torch.ones(1)}, about)
    data = path.read_bytes()
    path.write_bytes(data[:-4] + b"\x00\x00\xc0\x7f")
    with pytest.raises(ModuleError, match=r"the module .*holds? NaN or infinite values.*Make the file again"):
        load_tensors(path, "module", "f")


def _train(values: Tensor, losses: list[float], held_out: tuple[float, float]) -> None:
    def backward(_: Batch, __: float) -> Tensor:
        values.grad = torch.zeros_like(values)
        return torch.tensor(losses.pop(0) if losses else 0.5)

    train(
        [Group({"v": values}, 0.1)],
        backward,
        encoded(learnable(4)),
        lambda: held_out,
        Settings(epochs=2, batch_size=2),
        seed=0,
        pad=END,
        device=torch.device("cpu"),
        hooks=Hooks(title="tune", quiet=True),
    )


def test_training_says_whether_the_learning_rate_can_be_the_cause() -> None:
    with pytest.raises(NumberError, match=r"tune: the loss is nan before the first step, so the learning rate is not"):
        _train(torch.zeros(1), [math.nan], (0.5, 0.1))
    with pytest.raises(NumberError, match=r"tune: the loss is inf after 1 steps; lower the learning_rate"):
        _train(torch.zeros(1), [0.5, math.inf], (0.5, 0.1))
    with pytest.raises(NumberError, match=r"held-out score and loss are \(0\.5, nan\) after 2 steps; lower"):
        _train(torch.zeros(1), [], (0.5, math.nan))


def test_activations_that_overflow_the_cache_are_an_error(tmp_path: Path) -> None:
    model, rows = tiny_gpt2(), encoded(VERBALIZER)
    with torch.no_grad():
        model.transformer.wte.weight *= 1e6
    lengths = row_lengths(rows)
    plan = Plan("full", torch.float16, {"decoder": (0, 1)}, 16, {stack: sum(of) for stack, of in lengths.items()})
    cache = ActivationCache(tmp_path, plan, lengths)
    with pytest.raises(NumberError, match=r"activations of row \d+: .*float16"):
        cache.fill(rows, FrozenModel(model), GPT2, torch.arange(16), batch_size=4, pad=END, device=torch.device("cpu"))


def test_maps_from_activations_that_are_not_finite_are_an_error() -> None:
    sums = Moments(((0, 0),), reads=True, writes=True)
    sums.count = 2
    x = torch.tensor([[1.0, math.inf], [0.0, 1.0]])
    sums.add_small(0, x)
    sums.add_large(0, torch.randn(2, 3), lambda _: x)
    for direction in ("read", "write"):
        with pytest.raises(NumberError, match="stage align: activations of the two models"):
            map_of(sums, (0, 0), direction, method="ridge", ridge=0.1, centre=False)  # type: ignore[arg-type]
