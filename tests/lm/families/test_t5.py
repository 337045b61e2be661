"""T5: the tables match the real model in both versions, and rows have the form of pretraining."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import T5ForConditionalGeneration

from gfpet.data.examples import Example
from gfpet.errors import FrozenModelError, ModelError
from gfpet.lm.families import Dims, StackDims, Template, find_family, stack_of
from gfpet.lm.families.t5 import T5
from gfpet.lm.models import FrozenModel, load_pretrained
from gfpet.lm.scoring import backbone_of, collate, head_of, predict
from gfpet.synthetic.tokenizer import build_tokenizer
from tests.tiny import RANKING, VERBALIZER, ByteTokenizer, some_ids
from tests.tiny_t5 import (
    END,
    PAD,
    SENTINEL,
    TEMPLATE,
    VERSIONS,
    SentinelTokenizer,
    encoded_t5,
    family_of,
    logits_of_t5,
    texts_of,
    tiny_t5,
)

_ODD = StackDims(layers=2, heads=2, kv_heads=2, head_width=4, ffn=20)
ODD = Dims(10, {"encoder": _ODD, "decoder": replace(_ODD, layers=3)})


def require_true_tables(model: T5ForConditionalGeneration, dims: Dims) -> None:
    """Require that the table names every parameter once, with its shape."""
    family, seen = family_of(model), set()
    for stack in family.stacks:
        blocks = family.blocks_of(model, stack.name)
        assert len(blocks) == dims.stacks[stack.name].layers
        found = set()
        for number, block in enumerate(blocks):
            for name, parameter in block.named_parameters():
                assert tuple(parameter.shape) == tuple(
                    size if axis == "-" else dims.size(stack.name, axis)
                    for size, axis in zip(parameter.shape, stack.axes[name], strict=True)
                ), name
                assert number == 0 or "relative_attention_bias" not in name
                found.add(name)
                seen.add(parameter)
        assert found == set(stack.axes)
    outer = {name: weight for name, weight in model.named_parameters() if weight not in seen}
    assert set(outer) <= set(family.outer_axes)
    for name, weight in outer.items():
        assert weight.shape[-1] == dims.width == dims.size("decoder", family.outer_axes[name][-1])


@pytest.mark.parametrize("version", VERSIONS)
def test_axes_name_every_parameter_once_with_its_true_shape(version: str) -> None:
    model = tiny_t5(version=version)
    require_true_tables(model, T5.dims(model.config))
    resized = T5.resized(model.config, ODD)
    assert isinstance(resized, T5ForConditionalGeneration)
    require_true_tables(resized, ODD)
    assert [resized.lm_head.weight is resized.shared.weight, version] in ([True, "1.0"], [False, "1.1"])
    assert model.config.d_model == 16


@pytest.mark.parametrize("version", VERSIONS)
def test_sites_point_at_maps_of_the_widths_they_name(version: str) -> None:
    model = tiny_t5(version=version)
    family, dims = family_of(model), T5.dims(model.config)
    for name, target in family.target_modules.items():
        widths = (dims.size(stack_of(name), target.reads), dims.size(stack_of(name), target.writes))
        assert family.target_widths(model, name) == widths, name
    assert ("encoder.mlp.gate" in family.target_modules) == (version == "1.1")
    assert list(family.attentions) == ["encoder.attn", "decoder.attn", "decoder.cross"]


def test_a_t5_has_one_size_for_both_stacks() -> None:
    other = Dims(10, {"encoder": _ODD, "decoder": replace(_ODD, ffn=24)})
    with pytest.raises(ModelError, match="a T5 has one size for both stacks"):
        T5.resized(tiny_t5().config, other)


def test_sites_without_a_stack_are_those_of_every_stack_that_has_them() -> None:
    assert T5.expanded(["attn.q", "cross.v"]) == ("encoder.attn.q", "decoder.attn.q", "decoder.cross.v")
    assert T5.expanded(["decoder.attn.q", "attn.q"]) == ("decoder.attn.q", "encoder.attn.q")
    with pytest.raises(ModelError, match=r"unknown target of family t5 'mlp\.gate'.*Allowed: attn\.k"):
        T5.expanded(["mlp.gate"])
    gated = T5.for_config(tiny_t5(version="1.1").config)
    assert gated.expanded(["mlp.gate"]) == ("encoder.mlp.gate", "decoder.mlp.gate")
    assert find_family("gpt2").expanded(["attn.q"]) == ("attn.q",)
    with pytest.raises(ModelError, match=r"unknown target of family gpt2 'cross\.q'.*Allowed: attn\.k"):
        find_family("gpt2").expanded(["cross.q"])


def test_keys_and_values_of_cross_attention_have_the_encoders_positions() -> None:
    other = {name for name in T5.target_modules if T5.text_of(f"{name}.out") != stack_of(name)}
    assert other == {"decoder.cross.k", "decoder.cross.v"}
    assert T5.text_of("decoder.cross.k.in") == T5.text_of("encoder.residual") == "encoder"
    assert T5.text_of("decoder.residual") == find_family("gpt2").text_of("decoder.residual") == "decoder"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_and_its_head_are_the_models_own_forward_pass(version: str) -> None:
    model, source, target = tiny_t5(version=version), some_ids(3, 7), some_ids(3, 4, seed=2)
    hidden = family_of(model).run(model, texts_of(source, target))
    assert torch.allclose(hidden @ head_of(model).T, logits_of_t5(model, source, target), atol=1e-6)
    assert model.config.scale_decoder_outputs == (version == "1.0")


def test_the_frame_is_that_of_pretraining() -> None:
    assert T5.template is not None
    config = tiny_t5().config
    assert T5.template(config, SentinelTokenizer()) == TEMPLATE
    tokenizer = build_tokenizer()
    config.decoder_start_token_id = None
    sentinel = tokenizer.get_vocab()["<extra_id_0>"]
    ours = T5.template(config, tokenizer)
    assert ours == Template((sentinel, tokenizer.eos_token_id), (tokenizer.pad_token_id, sentinel))

    class Plain(ByteTokenizer):
        pad_token_id = 7

    assert T5.template(config, Plain()) == Template((END,), (7,))


def test_rows_of_an_encoder_decoder() -> None:
    short, long = encoded_t5([VERBALIZER[0], RANKING[0]])
    [row] = short.rows
    assert row.source == (*b"abc", SENTINEL, END)
    assert (row.tokens, row.start, row.targets) == ((PAD, SENTINEL), 1, ((ord("y"),), (ord("n"),)))
    assert [row.tokens[2:] for row in long.rows] == [(*b" sa",), (*b" ran of",), (*b" i",)]
    assert {(row.source, row.start) for row in long.rows} == {((*b"the cat", SENTINEL, END), 1)}
    [cut] = encoded_t5([Example("x", "0123456789", ("y", "n"), ("0", "1"), (0,))], max_length=6)
    assert cut.rows[0].source == (*b"6789", SENTINEL, END)
    [empty] = encoded_t5([Example("x", "", ("y", "n"), ("0", "1"), (0,))], max_length=2)
    assert empty.rows[0].source == (SENTINEL, END)
    batch = collate([short, long], pad=PAD)
    assert batch.texts["encoder"].lengths == (5, 9, 9, 9)
    assert batch.texts["decoder"].lengths == (2, 5, 9, 4)
    assert batch.size == 4 * 9 + 4 * 9


def naive_scores(model: T5ForConditionalGeneration, example: Example) -> list[float]:
    """Mean log-likelihood of each candidate, one sequence at a time over the whole vocabulary."""
    source = torch.tensor([[*example.context.encode(), SENTINEL, END]])
    scores = []
    for candidate in example.candidates:
        tokens = list(candidate.encode())
        logits = logits_of_t5(model, source, torch.tensor([[PAD, SENTINEL, *tokens]]))[0].log_softmax(-1)
        scores.append(float(torch.stack([logits[1 + step, token] for step, token in enumerate(tokens)]).mean()))
    return scores


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("batch_size", "pad"), [(1, PAD), (2, PAD), (9, 7)])
def test_scores_are_the_naive_ones_whatever_the_batch_and_the_padding(version: str, batch_size: int, pad: int) -> None:
    model, examples = tiny_t5(version=version), [*VERBALIZER, *RANKING]
    backbone, head = backbone_of(model, family_of(model)), head_of(model)
    predictions = predict(encoded_t5(examples), backbone, head, batch_size=batch_size, pad=pad)
    for scores, example in zip(predictions.scores, examples, strict=True):
        found, expected = (torch.tensor(each).log_softmax(-1) for each in (scores, naive_scores(model, example)))
        assert torch.allclose(found, expected, atol=1e-5), example.id


def test_a_frozen_t5_counts_once_a_pass_and_is_guarded_in_every_part() -> None:
    model = tiny_t5()
    frozen = FrozenModel(model)
    batch = collate(encoded_t5(VERBALIZER[:3]), pad=PAD)
    with frozen.forward_only() as large:
        backbone_of(large, T5)(batch)
        logits_of_t5(large, some_ids(2), some_ids(2))
    assert (frozen.forward_passes, frozen.forward_rows) == (2, 5)
    with pytest.raises(FrozenModelError, match="outside of inference mode"), torch.no_grad():
        model.encoder(some_ids())
    with pytest.raises(FrozenModelError, match="outside of inference mode"):
        backbone_of(model, T5)(batch)
    model.get_parameter("decoder.block.1.layer.1.EncDecAttention.k.weight").requires_grad_(True)
    with pytest.raises(FrozenModelError, match=r"EncDecAttention\.k\.weight' is trainable"), torch.inference_mode():
        model.encoder(some_ids())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_is_loaded_with_its_head_and_the_tables_of_its_version(version: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    model = tiny_t5(version=version)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if version == "1.1":
        model.lm_head.weight = nn.Parameter(torch.randn(len(tokenizer), 16))
    model.config.dropout_rate = 0.1
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_pretrained("t5", str(tmp_path), revision=None, dtype="float32", device=torch.device("cpu"))
    assert loaded.family is family_of(model)
    assert ("encoder.mlp.gate" in loaded.family.target_modules) == (version == "1.1")
    assert loaded.template is not None
    assert loaded.template.start[0] == PAD
    assert loaded.model.config.dropout_rate == 0.0
    source, target = some_ids(2), some_ids(2, 3)
    assert torch.equal(logits_of_t5(loaded.model, source, target), logits_of_t5(model.eval(), source, target))
