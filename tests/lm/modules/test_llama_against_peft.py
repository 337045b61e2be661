"""The same weights give the same logits as in Hugging Face `peft`, on Llama-like models with grouped heads."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import Tensor

from gfpet.lm.families.llama import LLAMA
from gfpet.lm.modules import inserted
from tests.tiny import logits_of, some_ids, tiny_llama, tiny_module

SHAPES = ("llama", "qwen2", "mistral")

# peft 0.21 uses an attribute of transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize("kind", SHAPES)
def test_lora_equals_peft(kind: str) -> None:
    model, ids = tiny_llama(kind=kind, layers=3), some_ids()
    options = {"rank": 3, "alpha": 6.0, "target_modules": tuple(LLAMA.target_modules)}
    module = tiny_module("lora", model, family=LLAMA, options=options)
    with inserted(model, LLAMA, module):
        ours = logits_of(model, ids)

    config = peft.LoraConfig(
        r=3,
        lora_alpha=6,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        for name, target in LLAMA.target_modules.items():
            for layer in range(3):
                linear = theirs.base_model.model.model.layers[layer].get_submodule(target.path)
                linear.lora_A["default"].weight.copy_(module.tensors[f"{name}.A"][layer])
                linear.lora_B["default"].weight.copy_(module.tensors[f"{name}.B"][layer])
        assert torch.allclose(logits_of(theirs, ids), ours, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(logits_of(model, ids), ours, atol=1e-2)


def flattened(keys: Tensor, values: Tensor) -> Tensor:
    """peft's prompt embedding `[p, 2 * layers * kv]`, with key and value of each layer adjacent."""
    layers, length, _ = keys.shape
    pairs = torch.stack([keys, values], dim=1)
    return pairs.permute(2, 0, 1, 3).reshape(length, 2 * layers * keys.shape[2])


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("with_mask", [False, True])
def test_prefix_equals_peft(kind: str, kv_heads: int, with_mask: bool) -> None:
    """The prefix shifts the text's rotary positions; its own keys are not rotated."""
    model, ids = tiny_llama(32, 3, kind=kind, heads=4, kv_heads=kv_heads, head_width=8), some_ids()
    module = tiny_module("prefix", model, family=LLAMA)
    mask = torch.ones_like(ids)
    if with_mask:
        mask[1, 4:] = 0
    positions = torch.arange(ids.shape[1])[None]
    with inserted(model, LLAMA, module):
        ours = model(input_ids=ids, position_ids=positions, attention_mask=mask if with_mask else None).logits

    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    keys, values = module.tensors["attn.k.prefix"], module.tensors["attn.v.prefix"]
    assert keys.shape == (3, 4, 8 * kv_heads)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(flattened(keys, values))
        expected = theirs(input_ids=ids, attention_mask=mask).logits
    real = mask.bool()
    assert torch.allclose(ours[real], expected[real], atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_soft_prompt_equals_peft(kind: str) -> None:
    model, ids = tiny_llama(kind=kind, layers=3), some_ids()
    module = tiny_module("soft_prompt", model, family=LLAMA)
    with inserted(model, LLAMA, module):
        ours = logits_of(model, ids)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(module.tensors["embeddings.prompt"][0])
        expected = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, 4:]
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_vera_equals_peft(kind: str) -> None:
    """peft shares A and B of the largest sizes, and each target takes as much of them as it is wide."""
    model, ids = tiny_llama(kind=kind, layers=3), some_ids()
    config = peft.VeraConfig(r=4, target_modules=["q_proj", "v_proj"], vera_dropout=0.0)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    a, b = (getattr(theirs.base_model, f"vera_{part}")["default"] for part in "AB")
    started = tiny_module("vera", model, family=LLAMA)
    tensors = dict(started.tensors)
    for name in ("attn.q", "attn.v"):
        tensors[f"{name}.A"] = a[:, : tensors[f"{name}.A"].shape[2]].detach().repeat(3, 1, 1)
        tensors[f"{name}.B"] = b[: tensors[f"{name}.B"].shape[1]].detach().repeat(3, 1, 1)
    module = started.with_tensors(tensors)
    with inserted(model, LLAMA, module):
        ours = logits_of(model, ids)
    with torch.no_grad():
        for name in ("attn.q", "attn.v"):
            for layer in range(3):
                linear = theirs.base_model.model.model.layers[layer].get_submodule(LLAMA.target(name).path)
                linear.vera_lambda_d["default"].copy_(module.tensors[f"{name}.d"][layer])
                linear.vera_lambda_b["default"].copy_(module.tensors[f"{name}.b"][layer])
        assert torch.allclose(logits_of(theirs, ids), ours, atol=1e-4)
        assert not torch.allclose(logits_of(model, ids), ours, atol=1e-2)
