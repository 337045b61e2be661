"""Pretraining of a GPT-2 on the synthetic text: the batches and the model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gfpet.synthetic._shape import Recipe, Shape
from gfpet.synthetic.facts import Facts
from gfpet.synthetic.prose import corpus

POSITIONS = 256
DOCUMENTS_AT_ONCE = 256


def packed(
    tokenizer: PreTrainedTokenizerFast, batch: int, length: int, seed: int, facts: Facts | None = None
) -> Iterator[Int[Tensor, "batch length"]]:
    """Endless batches of token ids, shape `[batch, length]`: concatenated documents with an end of text after each."""
    documents = corpus(seed, facts)
    buffer: list[int] = []
    while True:
        while len(buffer) < batch * length:
            texts = list(islice(documents, DOCUMENTS_AT_ONCE))
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                buffer += [*ids, tokenizer.eos_token_id]
        yield torch.tensor(buffer[: batch * length]).view(batch, length)
        del buffer[: batch * length]


def causal_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, facts: Facts | None = None
) -> Iterator[dict[str, Tensor]]:
    """Endless inputs of GPT-2's forward pass, with labels for next-token prediction."""
    for ids in packed(tokenizer, recipe.batch, recipe.length, recipe.seed, facts):
        yield {"input_ids": ids, "labels": ids}


def build_gpt2(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 without dropout, with random weights from `seed`."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_inner=shape.ffn,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)
