"""Tiny T5 models of both versions with tokenizer and examples, all from fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from gfpet.data.examples import Example
from gfpet.lm.families import Family, Padded, Template
from gfpet.lm.families.t5 import T5
from gfpet.lm.models import LoadedModel
from gfpet.lm.scoring import EncodedExample, Split, TaskData, encode
from tests.tiny import END, ByteTokenizer, learnable

PAD, SENTINEL = 257, 258
VERSIONS = ("1.0", "1.1")
TEMPLATE = Template(source_end=(SENTINEL, END), start=(PAD, SENTINEL))


class SentinelTokenizer(ByteTokenizer):
    """Tokens for bytes, end of text, padding and one sentinel."""

    pad_token_id = PAD

    def get_vocab(self) -> dict[str, int]:
        return super().get_vocab() | {"<pad>": PAD, "<extra_id_0>": SENTINEL}


def tiny_t5(
    width: int = 16,
    layers: tuple[int, int] = (2, 3),
    *,
    version: str = "1.0",
    heads: int = 3,
    seed: int = 0,
) -> T5ForConditionalGeneration:
    """A T5 with random weights, large enough for every part to affect the output; `layers`: of encoder and decoder.

    The heads' total width differs from the model's, as in T5-3B. Version 1.1 has a gated feed-forward layer and a
    separate output head.
    """
    config = T5Config(
        vocab_size=SENTINEL + 1,
        d_model=width,
        d_kv=4,
        d_ff=2 * width,
        num_layers=layers[0],
        num_decoder_layers=layers[1],
        num_heads=heads,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=12,
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=END,
        decoder_start_token_id=PAD,
        attn_implementation="sdpa",
        **({} if version == "1.0" else {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    )
    model = T5ForConditionalGeneration(config)
    if version == "1.1":
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 1.0 if "relative_attention_bias" in name else 0.2
            drawn = torch.randn(parameter.shape, generator=generator) * spread
            parameter.copy_(drawn + float("layer_norm" in name))
    return model.eval().requires_grad_(False)


def family_of(model: T5ForConditionalGeneration) -> Family:
    return T5.for_config(model.config)


def tiny_loaded_t5(width: int = 16, layers: tuple[int, int] = (2, 3), **more: object) -> LoadedModel:
    model = tiny_t5(width, layers, **more)  # type: ignore[arg-type]
    return LoadedModel(model, family_of(model), SentinelTokenizer(), f"tiny-t5-{width}x{layers}")


def encoded_t5(examples: Sequence[Example], max_length: int = 40) -> list[EncodedExample]:
    return encode(list(examples), SentinelTokenizer(), max_length=max_length, template=TEMPLATE)


def texts_of(source: Tensor, target: Tensor) -> dict[str, Padded]:
    """Rows without padding."""
    return {
        "encoder": Padded(source, (source.shape[1],) * len(source)),
        "decoder": Padded(target, (target.shape[1],) * len(target)),
    }


def logits_of_t5(model: T5ForConditionalGeneration, source: Tensor, target: Tensor) -> Tensor:
    """Logits `[rows, length, vocabulary]` of the model's own forward pass."""
    logits: Tensor = model(input_ids=source, decoder_input_ids=target, use_cache=False).logits
    return logits


def tiny_task_t5(train: int = 12, dev: int = 6) -> TaskData:
    """A task in the shape of RTE."""
    splits = [Split(rows, encoded_t5(rows)) for rows in (learnable(train), learnable(dev, 1), learnable(dev, 2))]
    return TaskData("rte", *splits, pad=PAD)
