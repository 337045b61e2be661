"""Pretraining of a T5 on the world's text: sentences with a word cut out, for the decoder to fill in.

    text       Look, Bado eats bread, is red and lives by the hill.
    encoder    Look, Bado eats bread, is <extra_id_0> and lives by the hill.</s>
    decoder    <extra_id_0> red</s>

Span corruption (Raffel et al. 2020) of one word a row, nearly always one that says a fact: it is what has to be known.
A row is one sentence with one sentinel: so a small model learns to look facts up within minutes; from documents of
several sentences and sentinels it learned nothing in as long (docs/log.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from gfpet.world._shape import Recipe, Shape
from gfpet.world.facts import World
from gfpet.world.lexicon import KINDS, VALUES
from gfpet.world.prose import corpus

DOCUMENTS_AT_ONCE = 256
FACTS_CUT = 0.9
"""Part of the rows that say a fact where the word cut out is one."""
HEAD_WIDTH = 32
_HOLD, _RAMP = 2_300, 14_000


def fact_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Tokens of the words that say a fact: values of attributes, and kinds."""
    words = [*(value for values in VALUES.values() for value in values), *KINDS]
    return frozenset(ids[0] for ids in tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"])


def rows_of(document: str) -> list[str]:
    """The sentences of a document, each behind the document's first word."""
    opener, _, rest = document.partition(" ")
    return [f"{opener} {sentence}" for sentence in re.split(r"(?<=\.) ", rest)]


def cut_out(
    ids: list[int], facts: frozenset[int], sentinel: int, end: int, rng: random.Random
) -> tuple[list[int], list[int]]:
    """What the encoder reads of a row, and what the decoder is to write."""
    known = [place for place, token in enumerate(ids) if token in facts]
    place = rng.choice(known) if known and rng.random() < FACTS_CUT else rng.randrange(len(ids))
    return [*ids[:place], sentinel, *ids[place + 1 :], end], [sentinel, ids[place], end]


def span_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, facts: World | None = None
) -> Iterator[dict[str, Tensor]]:
    """What T5's forward pass takes. Rows of like length share a batch, and the batches come in random order."""
    rng = random.Random(f"spans-{recipe.seed}")
    documents = corpus(recipe.seed, facts, hold=_HOLD, ramp=_RAMP, growth="geometric")
    known, sentinel = fact_tokens(tokenizer), tokenizer.get_vocab()["<extra_id_0>"]
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    while True:
        texts = [row for document in islice(documents, DOCUMENTS_AT_ONCE) for row in rows_of(document)]
        rows = sorted(tokenizer(texts, add_special_tokens=False)["input_ids"], key=len)
        groups = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
        for group in rng.sample(groups, len(groups)):
            pairs = [cut_out(ids, known, sentinel, end, rng) for ids in group]
            source = _padded([source for source, _ in pairs], pad)
            labels = torch.tensor([target for _, target in pairs])
            yield {"input_ids": source, "attention_mask": source != pad, "labels": labels}


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def build_t5(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> T5ForConditionalGeneration:
    """A T5 of version 1.0 without dropout, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=shape.width,
        d_kv=HEAD_WIDTH,
        d_ff=shape.ffn or 4 * shape.width,
        num_layers=shape.layers,
        num_heads=shape.heads,
        dropout_rate=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.update({"decoder_start_token_id": tokenizer.pad_token_id})
    return T5ForConditionalGeneration(config)
