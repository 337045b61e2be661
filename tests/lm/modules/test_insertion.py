"""Inserting a module: its output, its complete removal, and its gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gfpet.errors import ModelError, ModuleError
from gfpet.lm import registry
from gfpet.lm.families import Padded
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.modules import KINDS, PetModule, inserted, scaled_by_block
from gfpet.lm.training import checkpointing
from tests.tiny import KIND_NAMES, decoder_dims, logits_of, shaken, some_ids, tiny_gpt2, tiny_module


def start(kind: str, model: nn.Module, options: dict[str, Any], ids: Tensor | None = None) -> PetModule:
    ids = some_ids(1) if ids is None else ids
    texts = {"decoder": Padded(ids, (ids.shape[1],) * len(ids))}
    return KINDS[kind].start(model, GPT2, options, texts, torch.Generator().manual_seed(0))


def attributes_of(model: nn.Module) -> list[set[str]]:
    return [set(vars(part)) for part in model.modules()]


def hooks_of(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def gradients(model: nn.Module, module: PetModule, ids: Tensor) -> dict[str, Tensor]:
    tensors = {name: tensor.clone().requires_grad_(True) for name, tensor in module.tensors.items()}
    with inserted(model, GPT2, module.with_tensors(tensors)):
        logits_of(model, ids).square().mean().backward()
    return {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}


def by_hand(model: nn.Module, module: PetModule, ids: Tensor) -> Tensor:
    """The logits with an adapter, computed from the equations."""
    backbone = model.transformer
    h = backbone.wte(ids) + backbone.wpe(torch.arange(ids.shape[1]))

    def adapter(target: str, layer: int, x: Tensor) -> Tensor:
        down, b, up, c = (module.tensors[f"{target}.{part}"][layer] for part in ("down", "down_bias", "up", "up_bias"))
        inner = torch.nn.functional.gelu(torch.einsum("bd,...d->...b", down, x) + b)
        return x + torch.einsum("db,...b->...d", up, inner) + c

    for layer, block in enumerate(backbone.h):
        attended = adapter("attn.o", layer, block.attn(block.ln_1(h))[0])
        h = h + attended
        h = h + adapter("mlp.down", layer, block.mlp(block.ln_2(h)))
    return backbone.ln_f(h) @ backbone.wte.weight.T


def test_adapter_equals_the_equations() -> None:
    model, ids = tiny_gpt2(24, 3), some_ids()
    module = tiny_module("adapter", model)
    with inserted(model, GPT2, module):
        ours = logits_of(model, ids)
    assert torch.allclose(ours, by_hand(model, module, ids), atol=1e-5)


def test_lora_equals_the_merged_weights() -> None:
    model, ids = tiny_gpt2(24, 3), some_ids()
    module = tiny_module("lora", model)
    with inserted(model, GPT2, module):
        ours = logits_of(model, ids)
    for name in module.tensors:
        target_name, part = name.rsplit(".", 1)
        if part == "B":
            continue
        target = GPT2.target(target_name)
        for layer, block in enumerate(GPT2.blocks_of(model, "decoder")):
            a, b = module.tensors[f"{target_name}.A"][layer], module.tensors[f"{target_name}.B"][layer]
            weight = GPT2.linear_at(block, target_name).weight
            weight.chunk(target.parts, dim=1)[target.part].add_((b @ a).T * module.scale)
    assert torch.allclose(logits_of(model, ids), ours, atol=1e-5)


def test_a_prefix_is_what_a_cache_of_the_same_keys_and_values_is() -> None:
    """A prefix with the keys and values of a text's beginning gives the same output as the full text."""
    model, ids = tiny_gpt2(24, 3), some_ids(rows=1, length=9)
    whole = logits_of(model, ids)
    module = start("prefix", model, {"length": 4}, ids)
    with inserted(model, GPT2, module):
        end = logits_of(model, ids[:, 4:])
    assert torch.allclose(end, whole[:, 4:], atol=1e-5)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_insertion_leaves_no_trace(kind: str) -> None:
    model, ids = tiny_gpt2(), some_ids()
    before, attributes, hooks = logits_of(model, ids), attributes_of(model), hooks_of(model)
    with inserted(model, GPT2, tiny_module(kind, model)):
        assert not torch.allclose(logits_of(model, ids), before, atol=1e-2)
    assert torch.equal(logits_of(model, ids), before)
    assert attributes_of(model) == attributes
    assert hooks_of(model) == hooks


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_an_exception_inside_leaves_no_trace(kind: str) -> None:
    model, ids = tiny_gpt2(), some_ids()
    before, attributes, hooks = logits_of(model, ids), attributes_of(model), hooks_of(model)
    with pytest.raises(KeyError, match="broken"), inserted(model, GPT2, tiny_module(kind, model)):
        raise KeyError("broken")
    assert torch.equal(logits_of(model, ids), before)
    assert attributes_of(model) == attributes
    assert hooks_of(model) == hooks


@pytest.mark.parametrize(("outer", "inner"), [("lora", "prefix"), ("prefix", "adapter"), ("adapter", "lora")])
def test_two_kinds_nest(outer: str, inner: str) -> None:
    model, ids = tiny_gpt2(), some_ids()
    one, two = tiny_module(outer, model), tiny_module(inner, model)
    before = logits_of(model, ids)
    with inserted(model, GPT2, one):
        alone = logits_of(model, ids)
        with inserted(model, GPT2, two):
            both = logits_of(model, ids)
        assert torch.equal(logits_of(model, ids), alone)
    with inserted(model, GPT2, two), inserted(model, GPT2, one):
        swapped = logits_of(model, ids)
    assert not torch.allclose(both, alone, atol=1e-2)
    assert torch.allclose(both, swapped, atol=1e-4) or {outer, inner} == {"adapter", "lora"}
    assert torch.equal(logits_of(model, ids), before)


def test_two_prefixes_do_not_nest_and_the_first_stays_as_it_was() -> None:
    model, ids = tiny_gpt2(), some_ids()
    module = tiny_module("prefix", model)
    with inserted(model, GPT2, module):
        alone = logits_of(model, ids)
        with pytest.raises(ModuleError, match="has a prefix already"), inserted(model, GPT2, module):
            pass
        assert torch.equal(logits_of(model, ids), alone)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_module_in_some_layers_only(kind: str) -> None:
    model, ids = tiny_gpt2(layers=3), some_ids()
    whole = tiny_module(kind, model)
    if "decoder" not in whole.layers:
        pytest.skip("a soft prompt sits at the embeddings, in no block")
    silent = {
        name: torch.cat([torch.zeros_like(tensor[:1]), tensor[1:2], torch.zeros_like(tensor[:1])])
        for name, tensor in whole.tensors.items()
    }
    some = PetModule(whole.kind, "gpt2", {"decoder": (1,)}, {n: t[1:2] for n, t in whole.tensors.items()}, whole.scale)
    with inserted(model, GPT2, some):
        ours = logits_of(model, ids)
    if kind == "prefix":  # a prefix of zeros has an effect: it takes a share of the attention
        with inserted(model, GPT2, whole):
            assert not torch.allclose(ours, logits_of(model, ids), atol=1e-2)
    else:
        with inserted(model, GPT2, whole.with_tensors(silent)):
            assert torch.allclose(ours, logits_of(model, ids), atol=1e-6)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_only_the_module_gets_gradients_and_all_of_it(kind: str) -> None:
    model = tiny_gpt2()
    module = tiny_module(kind, model)
    found = gradients(model, module, some_ids())
    assert set(found) == set(module.tensors)
    assert all(bool((gradient.flatten(1).abs().amax(1) > 0).all()) for gradient in found.values())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_gradient_checkpointing_changes_no_gradient_and_leaves_no_trace(kind: str) -> None:
    model, ids = tiny_gpt2(layers=3), some_ids()
    module, hooks = tiny_module(kind, model), hooks_of(model)
    usual = gradients(model, module, ids)
    calls: list[int] = []
    handle = model.transformer.h[1].ln_1.register_forward_hook(lambda *_: calls.append(1))
    with checkpointing(model, True):
        assert hooks_of(model) == hooks + 1
        checkpointed = gradients(model, module, ids)
    handle.remove()
    assert len(calls) == 2  # recomputed in the backward pass: checkpointing was on
    for name, gradient in usual.items():
        assert torch.allclose(checkpointed[name], gradient, rtol=1e-6, atol=1e-7), name
    assert not model.training
    assert not model.is_activation_checkpointing
    assert not logits_of(model, ids).requires_grad
    assert hooks_of(model) == hooks


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_float32_module_trains_in_a_half_precision_model(kind: str, dtype: torch.dtype) -> None:
    model, ids = tiny_gpt2(), some_ids()
    module = shaken(tiny_module(kind, model), size=0.0)
    with inserted(model, GPT2, module):
        exact = logits_of(model, ids)
    half = model.to(dtype)
    with inserted(half, GPT2, module):
        near = logits_of(half, ids)
    assert near.dtype == dtype
    assert (near.float() - exact).norm() / exact.norm() < 0.05
    found = gradients(half, module, ids)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_module_sits_in_a_model_whose_heads_do_not_fill_its_width(kind: str) -> None:
    """A Bridge is such a model."""
    model = GPT2.resized(tiny_gpt2().config, decoder_dims(layers=2, width=20, heads=3, head_width=8, ffn=40))
    model.eval().requires_grad_(False)
    ids, before = some_ids(), logits_of(model, some_ids())
    module = tiny_module(kind, model)
    with inserted(model, GPT2, module):
        assert not torch.allclose(logits_of(model, ids), before, atol=1e-3)
    assert set(gradients(model, module, ids)) == set(module.tensors)


def test_starts_change_nothing_or_little() -> None:
    model, ids = tiny_gpt2(), some_ids()
    before = logits_of(model, ids)
    lora = start("lora", model, {"rank": 2, "alpha": 4.0, "target_modules": ("attn.q", "mlp.up")})
    assert {name: tuple(tensor.shape) for name, tensor in lora.tensors.items()} == {
        "attn.q.A": (2, 2, 16),
        "attn.q.B": (2, 16, 2),
        "mlp.up.A": (2, 2, 16),
        "mlp.up.B": (2, 64, 2),
    }
    assert lora.scale == 2.0
    assert float(lora.tensors["attn.q.A"].abs().max()) <= 0.25
    with inserted(model, GPT2, lora):
        assert torch.equal(logits_of(model, ids), before)
    adapter = start("adapter", model, {"bottleneck": 3, "target_modules": ("attn.o", "mlp.down")})
    assert adapter.parameters == 2 * 2 * (3 * 16 + 3 + 16 * 3 + 16)
    with inserted(model, GPT2, adapter):
        assert torch.allclose(logits_of(model, ids), before, atol=0.05)


def start_of_short_text() -> None:
    start("prefix", tiny_gpt2(), {"length": 4}, some_ids(1, 3))


def adapter_in_a_fused_map() -> None:
    start("adapter", tiny_gpt2(), {"bottleneck": 2, "target_modules": ("attn.q",)})


def no_positions() -> None:
    model = tiny_gpt2()
    with inserted(model, GPT2, tiny_module("prefix", model)):
        model(input_ids=some_ids())


def module_of_a_wider_model() -> None:
    inserted(tiny_gpt2(), GPT2, tiny_module("lora", tiny_gpt2(24)))


def module_of_a_deeper_model() -> None:
    inserted(tiny_gpt2(), GPT2, tiny_module("prefix", tiny_gpt2(layers=4)))


def module_of_another_family() -> None:
    inserted(tiny_gpt2(), GPT2, PetModule("lora", "t5", {}, {}))


def layers_that_do_not_fit() -> None:
    PetModule("lora", "gpt2", {"decoder": (0, 1)}, {"attn.q.A": torch.zeros(3, 2, 16)})


def a_stack_that_is_not_there() -> None:
    PetModule("lora", "gpt2", {"decoder": (0, 1)}, {"encoder.attn.q.A": torch.zeros(2, 2, 16)})


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (start_of_short_text, r"has 3 tokens; modules\.prefix\.length=4"),
        (adapter_in_a_fused_map, r"cannot sit at 'attn\.q'.*Allowed target modules: attn\.o, mlp\.down, mlp\.up"),
        (no_positions, "needs explicit position_ids"),
        (module_of_a_wider_model, r"'attn\.o\.A' has width 24, but the model's is 16"),
        (module_of_a_deeper_model, r"sits in decoder block 2, but the model has decoder blocks 0 to 1"),
        (module_of_another_family, "of family 't5', the model of 'gpt2'"),
        (layers_that_do_not_fit, r"'attn\.q\.A' has 3 layers, but the module sits in 2"),
        (a_stack_that_is_not_there, r"'encoder\.attn\.q\.A' is of stack 'encoder', but the module sits in: decoder"),
    ],
)
def test_what_does_not_fit_is_said(broken: Callable[[], None], text: str) -> None:
    with pytest.raises(ModuleError, match=text):
        broken()


def test_a_site_that_the_family_lacks_is_said() -> None:
    with pytest.raises(ModelError, match=r"unknown target of family gpt2 'mlp\.gate'"):
        inserted(tiny_gpt2(), GPT2, PetModule("lora", "gpt2", {"decoder": (0,)}, {"mlp.gate.A": torch.zeros(1, 2, 16)}))


@pytest.mark.parametrize("kind", [kind for kind in KIND_NAMES if registry.KINDS[kind].scalable])
def test_factors_by_block_scale_what_the_blocks_add(kind: str) -> None:
    model, ids = tiny_gpt2(layers=3), some_ids()
    module = shaken(tiny_module(kind, model))

    def said(with_module: PetModule) -> Tensor:
        with torch.no_grad(), inserted(model, GPT2, with_module):
            return logits_of(model, ids)

    assert torch.allclose(said(scaled_by_block(module, torch.full((3,), 1.7))), said(module.scaled(1.7)), atol=1e-5)
    first = PetModule(
        module.kind,
        module.family,
        {"decoder": (0,)},
        {name: tensor[:1] for name, tensor in module.tensors.items()},
        module.scale,
    )
    assert torch.allclose(said(scaled_by_block(module, torch.tensor([1.0, 0.0, 0.0]))), said(first), atol=1e-6)
    assert not torch.allclose(said(module), said(first), atol=1e-3)


def test_factors_by_block_go_to_both_stacks_and_leave_a_prefix_alone() -> None:
    tensors = {"encoder.mlp.up.A": torch.ones(2, 1, 4), "encoder.mlp.up.B": torch.ones(2, 4, 1)}
    tensors |= {
        name.replace("encoder", "decoder"): torch.ones(3, *tensor.shape[1:]) for name, tensor in tensors.items()
    }
    module = PetModule("lora", "t5", {"encoder": (0, 1), "decoder": (0, 1, 2)}, tensors)
    scaled = scaled_by_block(module, torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).tensors
    assert scaled["encoder.mlp.up.B"][:, 0, 0].tolist() == [1, 2]
    assert scaled["decoder.mlp.up.B"][:, 0, 0].tolist() == [3, 4, 5]
    assert all(torch.equal(scaled[name], tensors[name]) for name in tensors if name.endswith("A"))
    prefix = tiny_module("prefix", tiny_gpt2())
    same = scaled_by_block(prefix, torch.tensor([0.0, 2.0])).tensors
    assert all(torch.equal(same[name], tensor) for name, tensor in prefix.tensors.items())
