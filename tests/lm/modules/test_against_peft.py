"""The same weights give the same logits as in Hugging Face `peft`."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from torch import Tensor

from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import inserted
from tests.tiny import logits_of, some_ids, tiny_gpt2, tiny_module

# peft 0.21 uses an attribute of transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def test_lora_equals_peft() -> None:
    """peft cannot target parts of a fused linear layer: its A stacks those of q and v, and B has a block for each."""
    model, ids = tiny_gpt2(24, 3), some_ids()
    module = tiny_module("lora", model)
    with inserted(model, GPT2, module):
        ours = logits_of(model, ids)

    rank, width = 3, 24
    targets = {"attn.c_attn": 2 * rank, "attn.c_proj": rank, "mlp.c_fc": rank, "mlp.c_proj": rank}
    patterns = {f"{path}": count for path, count in targets.items()}
    config = peft.LoraConfig(
        r=rank,
        target_modules=list(targets),
        rank_pattern=patterns,
        alpha_pattern={path: module.scale * count for path, count in patterns.items()},
        lora_dropout=0.0,
        fan_in_fan_out=True,
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    tensors = module.tensors
    with torch.no_grad():
        for layer in range(3):
            block = theirs.base_model.model.transformer.h[layer]
            fused = block.attn.c_attn
            fused.lora_A["default"].weight.copy_(torch.cat([tensors["attn.q.A"][layer], tensors["attn.v.A"][layer]]))
            b = torch.zeros(3 * width, 2 * rank)
            b[:width, :rank] = tensors["attn.q.B"][layer]
            b[2 * width :, rank:] = tensors["attn.v.B"][layer]
            fused.lora_B["default"].weight.copy_(b)
            for target, path in (("attn.o", "attn.c_proj"), ("mlp.up", "mlp.c_fc"), ("mlp.down", "mlp.c_proj")):
                layer_assignment = block.get_submodule(path)
                layer_assignment.lora_A["default"].weight.copy_(tensors[f"{target}.A"][layer])
                layer_assignment.lora_B["default"].weight.copy_(tensors[f"{target}.B"][layer])
        assert torch.allclose(logits_of(theirs, ids), ours, atol=1e-5)
        merged = theirs.merge_and_unload()
        assert torch.allclose(logits_of(merged, ids), ours, atol=1e-5)


def flattened(keys: Tensor, values: Tensor) -> Tensor:
    """peft's prompt embedding `[p, 2 * layers * heads * head_width]`, with key and value of each layer adjacent."""
    layers, length, _ = keys.shape
    pairs = torch.stack([keys, values], dim=1)
    return pairs.permute(2, 0, 1, 3).reshape(length, 2 * layers * keys.shape[2])


@pytest.mark.parametrize("with_mask", [False, True])
def test_prefix_equals_peft(with_mask: bool) -> None:
    model, ids = tiny_gpt2(24, 3, heads=4), some_ids()
    module = tiny_module("prefix", model)
    mask = torch.ones_like(ids)
    if with_mask:
        mask[1, 4:] = 0
    positions = torch.arange(ids.shape[1])[None]
    with inserted(model, GPT2, module):
        ours = model(input_ids=ids, position_ids=positions, attention_mask=mask if with_mask else None).logits

    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    keys, values = module.tensors["attn.k.prefix"], module.tensors["attn.v.prefix"]
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(flattened(keys, values))
        expected = theirs(input_ids=ids, attention_mask=mask).logits
    real = mask.bool()
    assert torch.allclose(ours[real], expected[real], atol=1e-5)


@pytest.mark.parametrize("with_mask", [False, True])
def test_soft_prompt_equals_peft(with_mask: bool) -> None:
    model, ids = tiny_gpt2(24, 3), some_ids()
    module = tiny_module("soft_prompt", model)
    mask = torch.ones_like(ids)
    if with_mask:
        mask[1, 4:] = 0
    positions = torch.arange(ids.shape[1])[None]
    with inserted(model, GPT2, module):
        ours = model(input_ids=ids, position_ids=positions, attention_mask=mask if with_mask else None).logits

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(module.tensors["embeddings.prompt"][0])
        expected = theirs(input_ids=ids, attention_mask=mask).logits[:, 4:]
        assert not torch.allclose(ours, logits_of(model, ids), atol=1e-2)
    real = mask.bool()
    assert torch.allclose(ours[real], expected[real], atol=1e-5)
