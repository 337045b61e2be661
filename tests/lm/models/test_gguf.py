"""GGUF files: the same logits as with safetensors, and errors for unsupported files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch import nn

from gfpet.errors import ModelError
from gfpet.lm.models import LoadedModel, load_pretrained
from tests.tiny import logits_of, some_ids, tiny_llama

CPU = torch.device("cpu")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's row order: the rows of a head's two halves, which rotary positions rotate in pairs, alternate."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(
    path: Path,
    model: nn.Module,
    architecture: str = "llama",
    add: Callable[[gguf.GGUFWriter], None] = lambda _: None,
) -> Path:
    """Write the model and a byte-level tokenizer in the form of llama.cpp's converter."""
    from tokenizers.pre_tokenizers import ByteLevel

    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    # Replace the tilde by a merge: without merges, transformers assumes another type of tokenizer.
    tokens = [*sorted(set(ByteLevel.alphabet()) - {"~"}), "Ġa", "<|endoftext|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(256)
    writer.add_unk_token_id(256)
    writer.add_pad_token_id(256)
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    if "lm_head.weight" in weights:
        writer.add_tensor("output.weight", weights["lm_head.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for ours, theirs in NAMES.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            weight = paired(weight, heads[ours]) if ours in heads else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    add(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def load(path: Path) -> LoadedModel:
    return load_pretrained("llama", str(path), revision=None, dtype="float32", device=CPU)


@pytest.mark.parametrize("tied", [True, False])
def test_the_weights_of_a_gguf_file_give_the_same_logits(tmp_path: Path, tied: bool) -> None:
    model, ids = tiny_llama(tie_word_embeddings=tied), some_ids()
    loaded = load(write_gguf(tmp_path / "tiny.gguf", model))
    assert torch.allclose(logits_of(loaded.model, ids), logits_of(model, ids), atol=1e-5)
    assert loaded.family.name == "llama"
    assert loaded.name == str(tmp_path / "tiny.gguf")
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert len(loaded.tokenizer(["x y a"], add_special_tokens=False)["input_ids"][0]) == 4


def test_an_architecture_that_nobody_knows_is_said(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", tiny_llama(), architecture="mamba9")
    with pytest.raises(ModelError, match=r"odd\.gguf is a GGUF file of architecture 'mamba9', which transformers .* "):
        load(path)


def test_an_architecture_of_another_family_is_said(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "bloom.gguf", tiny_llama(), architecture="bloom")
    with pytest.raises(ModelError, match=r"is a 'bloom' model, but family 'llama' was asked for"):
        load(path)


def test_a_missing_file_is_said_with_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=r"no GGUF file at .*tiny\.gguf; .* holds other\.gguf\."):
        load(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match=r"no GGUF file at .*; there is no folder .*nowhere either\."):
        load(tmp_path / "nowhere" / "tiny.gguf")


@pytest.mark.parametrize("size", [0, 3, 200])
def test_a_file_that_was_cut_off_is_said(tmp_path: Path, size: int) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", tiny_llama())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"cannot load .*tiny\.gguf"):
        load(path)


def test_linear_scaling_of_positions_is_used(tmp_path: Path) -> None:
    scaled = tiny_llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0})

    def scaling(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    ids = some_ids()
    loaded = load(write_gguf(tmp_path / "linear.gguf", scaled, add=scaling))
    assert torch.allclose(logits_of(loaded.model, ids), logits_of(scaled, ids), atol=1e-5)
    assert not torch.allclose(logits_of(scaled, ids), logits_of(tiny_llama(), ids), atol=1e-2)


def test_what_the_reader_leaves_unread_is_refused(tmp_path: Path) -> None:
    def yarn(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)

    with pytest.raises(ModelError, match=r"scales its rotary positions by 'yarn' .*Take its safetensors"):
        load(write_gguf(tmp_path / "yarn.gguf", tiny_llama(), add=yarn))
    for name, size in (("rope_freqs.weight", 4), ("blk.0.attn_q.bias", 32)):
        with pytest.raises(ModelError, match=rf"holds 1 tensors that .* no place for, among them {name}"):
            load(
                write_gguf(
                    tmp_path / f"{name}.gguf",
                    tiny_llama(),
                    add=lambda writer, name=name, size=size: writer.add_tensor(name, np.ones(size, np.float32)),
                )
            )
    with pytest.raises(ModelError, match=r"has llama\.logit_scale, which transformers does not read"):
        load(write_gguf(tmp_path / "scale.gguf", tiny_llama(), add=lambda writer: writer.add_logit_scale(0.5)))
