"""The large model with fewer blocks, and its distillation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfpet.data.examples import Example
from gfpet.errors import ModelError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.families.llama import LLAMA
from gfpet.lm.models import FrozenModel, LoadedModel, load_pretrained
from gfpet.lm.modules import KINDS, inserted
from gfpet.lm.training import Hooks, Settings
from gfpet.method.align import identity_maps
from gfpet.method.derive import contexts, heal, with_blocks
from gfpet.method.plug import plugged, with_embeddings
from tests.tiny import (
    END,
    KIND_NAMES,
    ByteTokenizer,
    learnable,
    logits_of,
    save_checkpoint_folder,
    some_ids,
    tiny_gpt2,
    tiny_llama,
    tiny_module,
)
from tests.tiny_t5 import VERSIONS, family_of, logits_of_t5, tiny_t5

CPU = torch.device("cpu")
PAIRS = [(GPT2, tiny_gpt2(24, 5)), (LLAMA, tiny_llama(24, 5)), (LLAMA, tiny_llama(24, 5, kind="qwen2"))]
KEPT = {"decoder": (0, 2, 4)}


@pytest.mark.parametrize(("family", "large"), PAIRS, ids=["gpt2", "llama", "qwen2"])
def test_it_computes_what_the_kept_blocks_do(family, large) -> None:  # type: ignore[no-untyped-def]
    small, ids = with_blocks(large, family, KEPT), some_ids()
    assert family.dims(small.config).stacks["decoder"].layers == 3
    assert large.config.num_hidden_layers == 5
    assert not any(weight.requires_grad for weight in small.parameters())
    with torch.no_grad():
        ours = logits_of(small, ids)
    # Skip the dropped blocks in the large model.
    blocks = family.blocks_of(large, "decoder")
    handles = [blocks[layer].register_forward_hook(lambda _, args, __: args[0]) for layer in (1, 3)]
    with torch.no_grad():
        assert torch.equal(logits_of(large, ids), ours)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        assert not torch.allclose(logits_of(large, ids), ours)


@pytest.mark.parametrize(("family", "large"), PAIRS, ids=["gpt2", "llama", "qwen2"])
def test_all_blocks_are_the_large_model_and_nothing_is_shared(family, large) -> None:  # type: ignore[no-untyped-def]
    same = with_blocks(large, family, {"decoder": range(5)})
    with torch.no_grad():
        assert torch.equal(logits_of(same, some_ids()), logits_of(large, some_ids()))
        next(same.parameters()).add_(1)
        assert not torch.equal(logits_of(same, some_ids()), logits_of(large, some_ids()))


@pytest.mark.parametrize("version", VERSIONS)
def test_both_stacks_of_a_t5_are_cut(version: str, tmp_path: Path) -> None:
    large = tiny_t5(layers=(3, 4), version=version)
    family, kept = family_of(large), {"encoder": (0, 2), "decoder": (0, 1, 3)}
    small = with_blocks(large, family, kept)
    assert family.depths_of(small) == {"encoder": 2, "decoder": 3}
    source, target = some_ids(2, 6), some_ids(2, 4, seed=3)
    with torch.no_grad():
        ours = logits_of_t5(small, source, target)
    gone = [family.blocks_of(large, "encoder")[1], family.blocks_of(large, "decoder")[2]]
    handles = [block.register_forward_hook(lambda _, args, output: (args[0], *output[1:])) for block in gone]
    with torch.no_grad():
        assert torch.equal(logits_of_t5(large, source, target), ours)
    for handle in handles:
        handle.remove()
    save_checkpoint_folder(tmp_path / "small", small, extra_tokens=["<pad>", "<extra_id_0>"])
    loaded = load_pretrained("t5", str(tmp_path / "small"), revision=None, dtype="float32", device=CPU)
    with torch.no_grad():
        assert torch.equal(logits_of_t5(loaded.model, source, target), ours)


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    small = with_blocks(PAIRS[1][1], LLAMA, KEPT)
    save_checkpoint_folder(tmp_path / "small", small)
    loaded = load_pretrained("llama", str(tmp_path / "small"), revision=None, dtype="float32", device=CPU)
    with torch.no_grad():
        assert torch.equal(logits_of(loaded.model, some_ids()), logits_of(small, some_ids()))


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_identity_maps_plug_a_module_where_its_blocks_came_from(kind: str) -> None:
    family, large = PAIRS[1]
    small = LoadedModel(with_blocks(large, family, KEPT), family, ByteTokenizer(), "small")
    whole = LoadedModel(large, family, ByteTokenizer(), "large")
    module = tiny_module(kind, small.model, family=family)
    pairs = with_embeddings({"decoder": ((0, 0), (2, 1), (4, 2))}, module.layers)
    target_modules = {name.rsplit(".", 1)[0] for name in module.tensors}
    spaces = {f"{target}.{side}" for target in target_modules for side in ("in", "out")}
    maps = identity_maps(small, whole, pairs, reads=spaces, writes=spaces)
    moved = plugged(module, maps, pairs, divide_by_copies=True)
    assert dict(moved.layers) == {stack: tuple(layer for layer, _ in pairs[stack]) for stack in module.layers}
    for name, tensor in KINDS[kind].folded(module).tensors.items():
        assert torch.equal(moved.tensors[name], tensor)
    blocks = family.blocks_of(large, "decoder")
    handles = [blocks[layer].register_forward_hook(lambda _, args, __: args[0]) for layer in (1, 3)]
    with torch.no_grad(), inserted(large, family, moved):
        through = logits_of(large, some_ids())
    for handle in handles:
        handle.remove()
    with torch.no_grad(), inserted(small.model, family, module):
        assert torch.allclose(logits_of(small.model, some_ids()), through, atol=1e-6)


def test_a_block_that_knows_its_number_cannot_move() -> None:
    model = tiny_gpt2(24, 3)
    model.config.scale_attn_by_inverse_layer_idx = True
    with pytest.raises(ModelError, match="scale_attn_by_inverse_layer_idx"):
        with_blocks(model, GPT2, {"decoder": (0, 2)})


def test_contexts_hold_no_answer() -> None:
    example = Example("x", "what is it", (" right", " wrong"), ("0", "1"), (0,))
    (row,) = contexts([example], ByteTokenizer(), max_length=100)[0].rows
    assert bytes(row.tokens).decode() == "what is it"
    (short,) = contexts([example], ByteTokenizer(), max_length=4)[0].rows
    assert bytes(short.tokens).decode() == "s it"


def test_healing_brings_it_nearer_and_leaves_the_rest_alone() -> None:
    large = tiny_llama(24, 4)
    before = {name: weight.clone() for name, weight in large.named_parameters()}
    model = with_blocks(large, LLAMA, {"decoder": (0, 3)})
    embeddings = model.get_input_embeddings().weight.clone()
    blocks = [weight.clone() for weight in LLAMA.blocks_of(model, "decoder")[1].parameters()]
    small, frozen = LoadedModel(model, LLAMA, ByteTokenizer(), "small"), FrozenModel(large)
    text = contexts(learnable(32), ByteTokenizer(), max_length=40)
    held_out = contexts(learnable(8, 1), ByteTokenizer(), max_length=40)
    curves: dict[str, list[float]] = {}

    def log(series: str, _: int, value: float) -> None:
        curves.setdefault(series, []).append(value)

    outcome = heal(
        small, frozen, text, held_out, Settings(epochs=6, batch_size=8), pad=END, learning_rate=3e-3,
        hooks=Hooks(log=log),
    )  # fmt: skip
    assert curves["dev_loss"][-1] < 0.8 * curves["loss"][0]
    assert outcome.best_loss == min(curves["dev_loss"])
    assert torch.equal(model.get_input_embeddings().weight, embeddings)
    changed = [
        not torch.equal(old, new)
        for old, new in zip(blocks, LLAMA.blocks_of(model, "decoder")[1].parameters(), strict=True)
    ]
    assert all(changed)
    assert all(torch.equal(weight, before[name]) for name, weight in large.named_parameters())
    frozen.check()


def test_healing_the_whole_model_has_nothing_to_do() -> None:
    large = tiny_llama(24, 3)
    same = LoadedModel(with_blocks(large, LLAMA, {"decoder": range(3)}), LLAMA, ByteTokenizer(), "same")
    text = contexts(learnable(8), ByteTokenizer(), max_length=40)
    outcome = heal(
        same, FrozenModel(large), text, text, Settings(epochs=1, batch_size=8), pad=END, learning_rate=1e-9,
        hooks=Hooks(),
    )  # fmt: skip
    assert outcome.best_score == 1.0
    assert outcome.best_loss == pytest.approx(0.0, abs=1e-6)
