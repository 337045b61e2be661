"""A model that does not fit in memory is refused before its weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gfpet.errors import ModelError
from gfpet.lm.models import free_memory, load_pretrained, weight_bytes
from tests.tiny import tiny_llama

CPU = torch.device("cpu")


def empty(config: LlamaConfig) -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def test_bytes_are_those_of_the_weights() -> None:
    model = tiny_llama()
    real = sum(weight.numel() for weight in model.parameters())
    assert weight_bytes(empty(model.config), torch.float32) == 4 * real
    assert weight_bytes(empty(model.config), torch.bfloat16) == 2 * real


def test_quantised_weights_shrink_but_for_embeddings_norms_and_head() -> None:
    model = tiny_llama()
    inside = sum(weight.numel() for name, weight in model.named_parameters() if name.endswith("proj.weight"))
    rest = sum(weight.numel() for weight in model.parameters()) - inside
    assert weight_bytes(empty(model.config), torch.float32, "int8") == inside + 4 * rest
    assert weight_bytes(empty(model.config), torch.float32, "int4") == inside // 2 + 4 * rest


def test_free_memory_is_that_of_this_machine() -> None:
    assert 1e8 < free_memory(CPU) < 1e14


def test_a_model_that_is_too_large_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    """The file that should have two trillion weights is empty: it must not be opened."""
    config = LlamaConfig(
        hidden_size=32768, intermediate_size=131072, num_hidden_layers=120, num_attention_heads=256, vocab_size=128000
    )
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        load_pretrained("llama", str(tmp_path), revision=None, dtype="float32", device=CPU)
    text = str(caught.value)
    assert "is too large: its 2069" in text
    assert "GB as float32, and" in text
    assert "GB are free on cpu" in text
    assert "dtype: bfloat16 needs" in text
    assert "quantisation: int4" in text
    assert "device_map: auto" in text
