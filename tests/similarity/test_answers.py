"""The change of the answers by a module, and the part of a module in some blocks."""

from __future__ import annotations

import math

import pytest
import torch

from gfpet.errors import ModuleError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import Predictions, backbone_of, collate
from gfpet.similarity import alike, answer_change, at_blocks
from tests.tiny import END, KIND_NAMES, encoded, learnable, tiny_gpt2, tiny_module

MODEL = tiny_gpt2(16, 3)
BATCH = collate(encoded(learnable(3, 0)), pad=END)


def predicting(*scores: list[float]) -> Predictions:
    return Predictions([0] * len(scores), list(scores), 0.0)


def hidden(*modules: object) -> torch.Tensor:
    with torch.inference_mode():
        if not modules:
            return backbone_of(MODEL, GPT2)(BATCH)
        with inserted(MODEL, GPT2, modules[0]):  # type: ignore[arg-type]
            return backbone_of(MODEL, GPT2)(BATCH)


def test_what_all_candidates_gain_is_no_change() -> None:
    before = predicting([1.0, 2.0], [0.0, 0.0, 3.0])
    after = predicting([3.0, 4.0], [1.0, 0.0, 5.0])
    assert answer_change(after, before).tolist() == pytest.approx([0.0, 0.0, 0.0, -1.0, 1.0])


def test_cosine_and_size() -> None:
    found = alike(torch.tensor([[3.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
    assert (found.cosine, found.size) == (pytest.approx(math.sqrt(0.5)), pytest.approx(3 / math.sqrt(2)))
    assert alike(torch.tensor([-2.0, 0.0]), torch.tensor([1.0, 0.0])).cosine == pytest.approx(-1.0)
    assert alike(torch.zeros(2), torch.ones(2)).cosine is None
    assert alike(torch.zeros(2), torch.ones(2)).size == 0.0
    assert alike(torch.ones(2), torch.zeros(2)).size is None


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_part_acts_in_its_blocks_alone(kind: str) -> None:
    module = tiny_module(kind, MODEL)
    if "decoder" not in module.layers:
        pytest.skip("a soft prompt sits at the embeddings, in no block")
    every = at_blocks(module, [("decoder", layer) for layer in range(3)])
    assert torch.equal(hidden(every), hidden(module))
    part = at_blocks(module, [("decoder", 1)])
    assert (part.layers, part.scale) == ({"decoder": (1,)}, module.scale)
    for name, tensor in part.tensors.items():
        assert torch.equal(tensor[0], module.tensors[name][1])
    assert not torch.equal(hidden(part), hidden())
    assert not torch.equal(hidden(part), hidden(module))


def test_a_block_without_the_module_is_an_error() -> None:
    module = at_blocks(tiny_module("lora", MODEL), [("decoder", 2)])
    with pytest.raises(ModuleError, match="does not sit in block 0 of stack 'decoder'"):
        at_blocks(module, [("decoder", 0)])
