"""Pretraining of a T5 on the world's text: sentences with words cut out, for the decoder to fill in.

    text       Look, Bado eats bread, is red and lives by the hill.
    encoder    Look, Bado eats <extra_id_0>, is red and lives by the <extra_id_1>.</s>
    decoder    <extra_id_0> bread <extra_id_1> hill</s>

Span corruption (Raffel et al. 2020) of up to three words a row, nearly always words that say a fact: they are what has
to be known. The first rows are one sentence with one sentinel each: so a small model learns within minutes to look
facts up; from longer rows alone it learned nothing in as long (docs/log.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from gfpet.world._shape import Recipe, Shape
from gfpet.world.facts import World
from gfpet.world.lexicon import KINDS, VALUES
from gfpet.world.prose import corpus

DOCUMENTS_AT_ONCE = 256
FACTS_CUT = 0.9
"""Part of the rows that say a fact where the words cut out are such words."""
CUTS = 3
"""Most words cut out of one row."""
SENTENCES = 2
"""Most sentences of one row."""
HEAD_WIDTH = 32
OPEN_WORDS = ("unknown", "where", "what", "how")
"""Words that say, of an attribute, that it is open."""
_HOLD, _RAMP, _SIMPLE = 3_500, 25_000, 8_000
"""Documents before the world grows, while it grows, and whose rows are one sentence with one word cut out."""

_IGNORED = -100
"""Label that the loss leaves out."""


@dataclass(frozen=True)
class Cutter:
    """Cuts words out of rows of token ids."""

    facts: frozenset[int]
    """Tokens that say a fact."""
    rare: frozenset[int]
    """Those of them that are seldom said, and always cut out."""
    colon: int
    """What stands behind it is the answer to a selection: always cut out, too."""
    sentinels: tuple[int, ...]
    end: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Cutter:
        """For the world's tokenizer."""
        vocabulary = tokenizer.get_vocab()
        values = [value for values in VALUES.values() for value in values]
        return cls(
            facts=_tokens(tokenizer, [*values, *KINDS, *OPEN_WORDS]),
            rare=_tokens(tokenizer, [*KINDS, *OPEN_WORDS]),
            colon=vocabulary[":"],
            sentinels=tuple(vocabulary[f"<extra_id_{number}>"] for number in range(CUTS)),
            end=int(vocabulary[str(tokenizer.eos_token)]),
        )

    def cut(self, ids: list[int], most: int, rng: random.Random) -> tuple[list[int], list[int]]:
        """What the encoder reads of a row, and what the decoder is to write; up to `most` words are cut out."""
        first, others = [], []
        for place, token in enumerate(ids):
            if token in self.rare or (place and ids[place - 1] == self.colon):
                first.append(place)
            elif token in self.facts:
                others.append(place)
        if (first or others) and rng.random() < FACTS_CUT:
            wanted = rng.randint(1, most)
            rng.shuffle(first)
            rng.shuffle(others)
            places = sorted([*first, *others][:wanted])
        else:
            places = [rng.randrange(len(ids))]
        source, target = list(ids), []
        for place, sentinel in zip(places, self.sentinels, strict=False):
            target += [sentinel, ids[place]]
            source[place] = sentinel
        return [*source, self.end], [*target, self.end]


def _tokens(tokenizer: PreTrainedTokenizerFast, words: list[str]) -> frozenset[int]:
    return frozenset(ids[0] for ids in tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"])


def rows_of(document: str, most: int, rng: random.Random) -> list[str]:
    """The sentences of a document, one to `most` a row, each row behind the document's first word."""
    opener, _, rest = document.partition(" ")
    sentences = re.split(r"(?<=\.) ", rest)
    rows = []
    while sentences:
        size = rng.randint(1, most)
        rows.append(" ".join((opener, *sentences[:size])))
        sentences = sentences[size:]
    return rows


def span_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, facts: World | None = None
) -> Iterator[dict[str, Tensor]]:
    """What T5's forward pass takes. Rows of like length share a batch, and the batches come in random order."""
    rng = random.Random(f"spans-{recipe.seed}")
    documents = corpus(recipe.seed, facts, hold=_HOLD, ramp=_RAMP, growth="geometric")
    cutter, pad = Cutter.of(tokenizer), tokenizer.pad_token_id
    for read in count(0, DOCUMENTS_AT_ONCE):
        sentences, cuts = (1, 1) if read < _SIMPLE else (SENTENCES, CUTS)
        texts = [row for text in islice(documents, DOCUMENTS_AT_ONCE) for row in rows_of(text, sentences, rng)]
        rows = sorted(tokenizer(texts, add_special_tokens=False)["input_ids"], key=len)
        groups = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
        for group in rng.sample(groups, len(groups)):
            pairs = [cutter.cut(ids, cuts, rng) for ids in group]
            source = _padded([source for source, _ in pairs], pad)
            labels = _padded([target for _, target in pairs], _IGNORED)
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
