"""Modules in T5: their output in each stack against merged weights, equations, caches and `peft`."""

from __future__ import annotations

import copy
from pathlib import Path

import peft
import pytest
import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, T5ForConditionalGeneration

from gfpet.errors import ModuleError
from gfpet.lm.families import stack_of
from gfpet.lm.families.t5 import T5
from gfpet.lm.modules import KINDS, PetModule, by_block, inserted
from gfpet.lm.training import checkpointing, start_module
from tests.tiny import KIND_NAMES, some_ids, tiny_module
from tests.tiny_t5 import VERSIONS, family_of, logits_of_t5, texts_of, tiny_loaded_t5, tiny_t5, tiny_task_t5

# peft 0.21 uses an attribute of transformers by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SOURCE, TARGET = some_ids(3, 7), some_ids(3, 5, seed=2)


def with_module(model: T5ForConditionalGeneration, module: PetModule) -> Tensor:
    with inserted(model, family_of(model), module):
        return logits_of_t5(model, SOURCE, TARGET)


def gradients(model: T5ForConditionalGeneration, module: PetModule) -> dict[str, Tensor]:
    tensors = {name: tensor.clone().requires_grad_(True) for name, tensor in module.tensors.items()}
    with inserted(model, family_of(model), module.with_tensors(tensors)):
        logits_of_t5(model, SOURCE, TARGET).square().mean().backward()
    return {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}


@pytest.mark.parametrize("version", VERSIONS)
def test_lora_equals_the_merged_weights(version: str) -> None:
    model = tiny_t5(version=version)
    family, module = family_of(model), tiny_module("lora", model, family=family_of(model))
    assert module.layers == {"encoder": (0, 1), "decoder": (0, 1, 2)}
    ours = with_module(model, module)
    for stack, layer, tensors in by_block(module):
        block = family.blocks_of(model, stack)[layer]
        for name in {name.rpartition(".")[0] for name in tensors}:
            update = tensors[f"{name}.B"] @ tensors[f"{name}.A"] * module.scale
            family.linear_at(block, name).get_parameter("weight").add_(update)
    assert torch.allclose(logits_of_t5(model, SOURCE, TARGET), ours, atol=1e-5)


class _Adapted(nn.Module):
    """A linear layer followed by the adapter's equation `h ← h + U φ(D h + b) + c`."""

    def __init__(self, linear: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.linear, self.tensors = linear, tensors

    @property
    def weight(self) -> Tensor:
        return self.linear.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x)
        inner = torch.einsum("bd,...d->...b", self.tensors["down"], h) + self.tensors["down_bias"]
        return (
            h + torch.einsum("db,...b->...d", self.tensors["up"], nn.functional.gelu(inner)) + self.tensors["up_bias"]
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_adapter_equals_the_equations(version: str) -> None:
    model = tiny_t5(version=version)
    family, module = family_of(model), tiny_module("adapter", model, family=family_of(model))
    ours = with_module(model, module)
    for stack, layer, tensors in by_block(module):
        block = family.blocks_of(model, stack)[layer]
        for name in {name.rpartition(".")[0] for name in tensors}:
            path, _, last = family.target(name).path.rpartition(".")
            own = {part: tensors[f"{name}.{part}"] for part in ("down", "down_bias", "up", "up_bias")}
            setattr(block.get_submodule(path), last, _Adapted(family.linear_at(block, name), own))
    assert torch.allclose(logits_of_t5(model, SOURCE, TARGET), ours, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_lora_equals_peft(version: str) -> None:
    model = tiny_t5(version=version)
    family, module = family_of(model), tiny_module("lora", model, family=family_of(model))
    ours = with_module(model, module)
    target_modules = sorted({name.rpartition(".")[0] for name in module.tensors})
    paths = {
        name: [f"{family.stack(stack_of(name)).blocks}.{layer}.{family.target(name).path}" for layer in layers]
        for name in target_modules
        for layers in [module.layers[stack_of(name)]]
    }
    config = peft.LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=3,
        lora_alpha=3 * module.scale,
        lora_dropout=0.0,
        target_modules=[path for each in paths.values() for path in each],
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        for name, each in paths.items():
            for layer, path in enumerate(each):
                layer_assignment = theirs.base_model.model.get_submodule(path)
                layer_assignment.lora_A["default"].weight.copy_(module.tensors[f"{name}.A"][layer])
                layer_assignment.lora_B["default"].weight.copy_(module.tensors[f"{name}.B"][layer])
        assert torch.allclose(logits_of_t5(theirs, SOURCE, TARGET), ours, atol=1e-5)


def only(module: PetModule, *attentions: str) -> PetModule:
    """The prefix at the named attentions only."""
    tensors = {name: tensor for name, tensor in module.tensors.items() if name.startswith(attentions)}
    stacks = {stack_of(name) for name in tensors}
    return PetModule("prefix", "t5", {stack: module.layers[stack] for stack in stacks}, tensors)


@pytest.mark.parametrize("version", VERSIONS)
def test_prefix_of_the_decoder_equals_peft(version: str) -> None:
    """peft 0.21 supports a prefix in the decoder's self-attention only. It splits its input into fours and drops those
    of cross-attention, so that block i gets the values of block 2i mod n: with three blocks, a permutation."""
    model = tiny_t5(version=version)
    module = only(tiny_module("prefix", model, family=family_of(model)), "decoder.attn")
    ours = with_module(model, module)
    config = peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4, num_layers=3, token_dim=12, num_attention_heads=3
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    keys, values = (module.tensors[f"decoder.attn.{part}.prefix"] for part in "kv")
    place = [next(i for i in range(3) if 2 * i % 3 == slot) for slot in range(3)]
    pairs = torch.stack([keys[place], values[place]], dim=1)
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(pairs.permute(2, 0, 1, 3).reshape(4, -1))
        expected = theirs(input_ids=SOURCE, decoder_input_ids=TARGET).logits
    assert not torch.allclose(ours, logits_of_t5(model, SOURCE, TARGET), atol=1e-2)
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_soft_prompt_equals_peft(version: str) -> None:
    """The soft prompt is in the encoder, where cross-attention sees it, too; padding stays masked."""
    model = tiny_t5(version=version)
    family, module = family_of(model), tiny_module("soft_prompt", model, family=family_of(model))
    mask = torch.ones_like(SOURCE)
    mask[1, 4:] = 0
    with inserted(model, family, module):
        ours = model(input_ids=SOURCE, decoder_input_ids=TARGET, attention_mask=mask).logits
    config = peft.PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4, num_transformer_submodules=1, token_dim=16
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(module.tensors["embeddings.prompt"][0])
        expected = theirs(input_ids=SOURCE, decoder_input_ids=TARGET, attention_mask=mask).logits
    assert torch.allclose(ours, expected, atol=1e-5)


def heads_of(tensor: Tensor) -> Tensor:
    """`[p, heads * width]` in the form of a cache, `[rows, heads, p, width]`."""
    return tensor.view(4, 3, 4).transpose(0, 1).expand(3, -1, -1, -1)


@pytest.mark.parametrize("version", VERSIONS)
def test_prefix_of_the_decoder_equals_a_cache_of_the_same_keys_and_values(version: str) -> None:
    """In self-attention and cross-attention; relative positions are those after a cache of p tokens."""
    model = tiny_t5(version=version)
    module = only(tiny_module("prefix", model, family=family_of(model)), "decoder.attn", "decoder.cross")
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for layer in range(3):
        for name, part in (("attn", cache.self_attention_cache), ("cross", cache.cross_attention_cache)):
            keys, values = (heads_of(module.tensors[f"decoder.{name}.{each}.prefix"][layer]) for each in "kv")
            part.update(keys.clone(), values.clone(), layer)
    cache.is_updated = dict.fromkeys(range(3), False)
    expected = model(input_ids=SOURCE, decoder_input_ids=TARGET, past_key_values=cache).logits
    assert torch.allclose(with_module(model, module), expected, atol=1e-5)


def test_prefix_of_the_encoder_is_the_text_whose_keys_and_values_it_holds() -> None:
    """In a one-block encoder, a prefix with the keys and values of a text's beginning gives the full text's output."""
    model = tiny_t5(layers=(1, 2))
    whole = model.encoder(SOURCE[:1]).last_hidden_state
    texts = texts_of(SOURCE[:1], TARGET[:1])
    module = KINDS["prefix"].start(model, T5, {"length": 4}, texts, torch.Generator())
    with inserted(model, T5, only(module, "encoder.attn")):
        end = model.encoder(SOURCE[:1, 4:]).last_hidden_state
    assert torch.allclose(end, whole[:, 4:], atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_prefix_is_blind_to_padding(version: str) -> None:
    model = tiny_t5(version=version)
    family, module = family_of(model), tiny_module("prefix", model, family=family_of(model))
    texts = texts_of(SOURCE, TARGET)
    short = {stack: type(text)(text.ids, (text.lengths[0] - 2,) * 3) for stack, text in texts.items()}
    other = {stack: type(text)(text.ids.clone(), text.lengths) for stack, text in short.items()}
    for text in other.values():
        text.ids[:, -2:] = 7
    with inserted(model, family, module):
        ours, same = family.run(model, short), family.run(model, other)
        cut = family.run(model, texts_of(SOURCE[:, :5], TARGET[:, :3]))
    assert torch.allclose(ours[:, :3], same[:, :3], atol=1e-6)
    assert torch.allclose(ours[:, :3], cut, atol=1e-5)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_insertion_leaves_no_trace_and_files_come_back_whole(kind: str, version: str, tmp_path: Path) -> None:
    model = tiny_t5(version=version)
    module = tiny_module(kind, model, family=family_of(model))
    before = logits_of_t5(model, SOURCE, TARGET)
    attributes = [set(vars(part)) for part in model.modules()]
    changed = with_module(model, module)
    assert not torch.allclose(changed, before, atol=1e-2)
    assert torch.equal(logits_of_t5(model, SOURCE, TARGET), before)
    assert [set(vars(part)) for part in model.modules()] == attributes
    assert model.encoder.config._attn_implementation == model.decoder.config._attn_implementation == "sdpa"
    module.save(tmp_path / "module.safetensors")
    back = PetModule.load(tmp_path / "module.safetensors")
    assert back.layers == module.layers
    assert torch.equal(with_module(model, back), changed)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_gradient_checkpointing_changes_no_gradient(kind: str, version: str) -> None:
    model = tiny_t5(version=version)
    module = tiny_module(kind, model, family=family_of(model))
    usual = gradients(model, module)
    assert set(usual) == set(module.tensors)
    assert all(bool((gradient.flatten(1).abs().amax(1) > 0).all()) for gradient in usual.values())
    calls: list[int] = []
    handles = [
        block.layer[0].layer_norm.register_forward_hook(lambda *_: calls.append(1))
        for block in (model.encoder.block[1], model.decoder.block[1])
    ]
    with checkpointing(model, True):
        checkpointed = gradients(model, module)
    for handle in handles:
        handle.remove()
    assert len(calls) == 4  # recomputed in the backward pass, in both stacks
    for name, gradient in usual.items():
        assert torch.allclose(checkpointed[name], gradient, rtol=1e-4, atol=1e-6), name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training
    assert not logits_of_t5(model, SOURCE, TARGET).requires_grad


def test_a_prefix_starts_as_text_in_every_attention_though_the_decoder_reads_little() -> None:
    loaded = tiny_loaded_t5()
    module = start_module("prefix", loaded, {"length": 6}, tiny_task_t5(), seed=0)
    assert {name: tuple(tensor.shape) for name, tensor in module.tensors.items()} == {
        f"{attention}.{part}.prefix": (2 if attention == "encoder.attn" else 3, 6, 12)
        for attention in ("encoder.attn", "decoder.attn", "decoder.cross")
        for part in "kv"
    }
    lora = start_module("lora", loaded, {"rank": 2, "alpha": 2.0, "target_modules": ["attn.q"]}, tiny_task_t5(), seed=0)
    assert set(lora.tensors) == {f"{stack}.attn.q.{part}" for stack in ("encoder", "decoder") for part in "AB"}


def test_a_module_of_a_deeper_encoder_is_refused() -> None:
    deep = tiny_t5(layers=(4, 3))
    with pytest.raises(ModuleError, match="sits in encoder block 2, but the model has encoder blocks 0 to 1"):
        inserted(tiny_t5(), T5, tiny_module("lora", deep, family=T5))
