"""The large model never has a gradient: any attempt raises an error that names the parameter."""

from __future__ import annotations

import pytest
import torch

from gfpet.errors import FrozenModelError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.models import FrozenModel
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import backbone_of, candidate_scores, collate, head_of, predict, ranking_loss
from tests.tiny import END, KIND_NAMES, VERBALIZER, encoded, logits_of, some_ids, tiny_gpt2, tiny_module

NAME = "transformer.h.1.mlp.c_fc.weight"


def test_it_runs_forward_and_counts() -> None:
    model, ids = tiny_gpt2(), some_ids()
    expected = logits_of(model, ids)
    frozen = FrozenModel(model)
    with frozen.forward_only() as large:
        assert torch.equal(logits_of(large, ids), expected)
        backbone = large.transformer(ids[:2])
        large.lm_head(backbone.last_hidden_state)
    assert (frozen.forward_passes, frozen.forward_rows) == (2, 5)


def test_a_model_that_comes_trainable_and_with_gradients_is_frozen() -> None:
    model = tiny_gpt2().train().requires_grad_(True)
    logits_of(model, some_ids()).mean().backward()
    frozen = FrozenModel(model)
    frozen.check()
    assert not model.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_one_trainable_parameter_stops_everything_by_name() -> None:
    model = tiny_gpt2()
    frozen = FrozenModel(model)
    model.get_parameter(NAME).requires_grad_(True)
    with pytest.raises(FrozenModelError, match=rf"parameter '{NAME}' is trainable"), frozen.forward_only():
        pass
    with pytest.raises(FrozenModelError, match=rf"parameter '{NAME}' is trainable"):
        logits_of(model, some_ids())
    with pytest.raises(FrozenModelError, match=rf"parameter '{NAME}' is trainable"), torch.inference_mode():
        model.transformer(some_ids())


def test_becoming_trainable_inside_is_seen_at_the_next_forward_pass_and_at_the_end() -> None:
    model = tiny_gpt2()
    frozen = FrozenModel(model)

    def thaw(*, forward: bool) -> None:
        with frozen.forward_only() as large:
            large.get_parameter(NAME).requires_grad_(True)
            if forward:
                logits_of(large, some_ids())
                raise AssertionError("a forward pass went through")

    for forward in (True, False):
        with pytest.raises(FrozenModelError, match=NAME):
            thaw(forward=forward)
        model.requires_grad_(False)


def test_a_gradient_is_seen() -> None:
    model = tiny_gpt2()
    frozen = FrozenModel(model)
    weight = model.get_parameter(NAME)
    weight.grad = torch.zeros_like(weight)
    with pytest.raises(FrozenModelError, match=rf"parameter '{NAME}' has a gradient"), frozen.forward_only():
        pass


@pytest.mark.parametrize("part", ["", "transformer", "lm_head", "transformer.h.0", "transformer.h.1.attn.c_attn"])
@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad])
def test_no_part_runs_outside_of_inference_mode(part: str, context: type) -> None:
    model = tiny_gpt2()
    FrozenModel(model)
    whole = part in ("", "transformer")
    given = some_ids() if whole else torch.zeros(1, 3, 16)
    with context(), pytest.raises(FrozenModelError, match="outside of inference mode"):
        model.get_submodule(part)(given)


def test_inference_mode_cannot_be_left_inside() -> None:
    frozen = FrozenModel(tiny_gpt2())
    with (
        frozen.forward_only() as large,
        torch.inference_mode(False),
        pytest.raises(FrozenModelError, match="outside of inference mode"),
    ):
        logits_of(large, some_ids())


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_no_output_asks_for_a_gradient_even_with_a_module_that_does(kind: str) -> None:
    model = tiny_gpt2()
    frozen = FrozenModel(model)
    module = tiny_module(kind, model)
    for tensor in module.tensors.values():
        tensor.requires_grad_(True)
    batch = collate(encoded(VERBALIZER), pad=END)
    with frozen.forward_only() as large, inserted(large, GPT2, module), torch.enable_grad():
        logits = logits_of(large, some_ids())
        scores = candidate_scores(backbone_of(large, GPT2)(batch), head_of(large), batch)
        loss = ranking_loss(scores, batch)
    for output in (logits, scores, loss):
        assert not output.requires_grad
        assert output.grad_fn is None
        assert output.is_inference()
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()
    assert all(tensor.grad is None for tensor in module.tensors.values())
    frozen.check()


def test_an_output_cannot_be_made_part_of_a_graph() -> None:
    frozen = FrozenModel(tiny_gpt2())
    with frozen.forward_only() as large:
        logits = logits_of(large, some_ids())
    weight = torch.ones((), requires_grad=True)
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        (logits * weight).sum().backward()


def test_predictions_come_through_it() -> None:
    model = tiny_gpt2()
    rows = encoded(VERBALIZER)
    usual = predict(rows, backbone_of(model, GPT2), head_of(model), batch_size=2, pad=END)
    frozen = FrozenModel(model)
    with frozen.forward_only() as large:
        predictions = predict(rows, backbone_of(large, GPT2), head_of(large), batch_size=2, pad=END)
    assert predictions == usual
    assert (frozen.forward_passes, frozen.forward_rows) == (3, 6)
