"""Pretraining of a T5 on the synthetic text: words are cut out of sentences, and the decoder fills them in.

    text       Look, Bado eats bread, is red and lives by the hill.
    encoder    Look, Bado eats <extra_id_0>, is red and lives by the <extra_id_1>.</s>
    decoder    <extra_id_0> bread <extra_id_1> hill</s>

Span corruption (Raffel et al. 2020) of single words, nearly always words that state a fact. From rows of one sentence
with one sentinel, a small model learns within minutes to look facts up; from longer rows alone it learned nothing in
the same time. A larger model goes on to two sentences with more sentinels (`Recipe.cuts`), later to four
(`Recipe.long_from`), and can then be tuned on more tasks; a smaller one cannot (docs/log.md). Once they know the facts,
both get new blocks after the decoder's last one (`Growth`).
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from gfpet.synthetic._shape import Recipe, Shape
from gfpet.synthetic.facts import Facts
from gfpet.synthetic.lexicon import KINDS, VALUES
from gfpet.synthetic.prose import corpus
from gfpet.synthetic.tokenizer import SENTINELS

DOCUMENTS_AT_ONCE = 256
FACTS_CUT = 0.9
"""Fraction of the rows with a fact that lose words of a fact; the others lose any word."""
SENTENCES, SENTENCES_LONG = 2, 4
"""Most sentences of a row with several words cut out, before and after `Recipe.long_from` documents."""
HEAD_WIDTH = 32
OPEN_WORDS = ("unknown", "where", "what", "how")
"""Words that state that an attribute is open."""
_IGNORED = -100
"""Label that the loss ignores."""


@dataclass(frozen=True)
class Words:
    """Token ids that decide which words are cut out."""

    facts: frozenset[int]
    """Values and kinds."""
    rare: frozenset[int]
    """Kinds, and words of open attributes. They are rare, so they are cut out first."""
    colon: int
    """The answer to a selection follows it, and is cut out first, too."""
    sentinels: tuple[int, ...]
    end: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast) -> Words:
        """The ids in the tokenizer of the synthetic benchmark."""
        vocabulary = tokenizer.get_vocab()
        values = [value for values in VALUES.values() for value in values]
        return cls(
            facts=_tokens(tokenizer, [*values, *KINDS]),
            rare=_tokens(tokenizer, [*KINDS, *OPEN_WORDS]),
            colon=vocabulary[":"],
            sentinels=tuple(vocabulary[f"<extra_id_{number}>"] for number in range(SENTINELS)),
            end=int(vocabulary[str(tokenizer.eos_token)]),
        )


def _tokens(tokenizer: PreTrainedTokenizerFast, words: list[str]) -> frozenset[int]:
    return frozenset(ids[0] for ids in tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"])


def sentences_of(document: str) -> list[str]:
    """The sentences of a document, each after the document's first word."""
    opener, sentences = _split(document)
    return [f"{opener} {sentence}" for sentence in sentences]


def rows_of(document: str, most: int, rng: random.Random) -> list[str]:
    """Like `sentences_of`, with one to `most` sentences per row."""
    opener, sentences = _split(document)
    rows = []
    while sentences:
        size = rng.randint(1, most)
        rows.append(" ".join((opener, *sentences[:size])))
        sentences = sentences[size:]
    return rows


def _split(document: str) -> tuple[str, list[str]]:
    opener, _, rest = document.partition(" ")
    return opener, re.split(r"(?<=\.) ", rest)


Cut = tuple[list[int], list[int]]
"""Encoder input and decoder target of a row, as token ids."""


def cut_one(ids: list[int], words: Words, rng: random.Random) -> Cut:
    """Cut one word out of a row."""
    known = [place for place, token in enumerate(ids) if token in words.facts]
    place = rng.choice(known) if known and rng.random() < FACTS_CUT else rng.randrange(len(ids))
    return _cut(ids, [place], words)


def cut_several(ids: list[int], most: int, words: Words, rng: random.Random) -> Cut:
    """Cut one to `most` words out of a row, rare ones first."""
    first, others = [], []
    for place, token in enumerate(ids):
        if token in words.rare or (place and ids[place - 1] == words.colon):
            first.append(place)
        elif token in words.facts:
            others.append(place)
    if not (first or others) or rng.random() >= FACTS_CUT:
        return _cut(ids, [rng.randrange(len(ids))], words)
    wanted = rng.randint(1, most)
    rng.shuffle(first)
    rng.shuffle(others)
    return _cut(ids, sorted([*first, *others][:wanted]), words)


def _cut(ids: list[int], places: list[int], words: Words) -> Cut:
    source, target = list(ids), []
    for place, sentinel in zip(places, words.sentinels, strict=False):
        target += [sentinel, ids[place]]
        source[place] = sentinel
    return [*source, words.end], [*target, words.end]


def span_batches(
    tokenizer: PreTrainedTokenizerFast, recipe: Recipe, facts: Facts | None = None
) -> Iterator[dict[str, Tensor]]:
    """Endless inputs of T5's forward pass, with labels. Batches hold rows of similar length, in random order."""
    rng = random.Random(f"spans-{recipe.seed}")
    documents = corpus(recipe.seed, facts, hold=recipe.hold, ramp=recipe.ramp, growth="geometric")
    words, pad = Words.of(tokenizer), tokenizer.pad_token_id
    for read in count(0, DOCUMENTS_AT_ONCE):
        sentences, cuts = _row_sizes(recipe, read)
        texts: list[str] = []
        for document in islice(documents, DOCUMENTS_AT_ONCE):
            texts += sentences_of(document) if recipe.cuts == 1 else rows_of(document, sentences, rng)
        rows = sorted(tokenizer(texts, add_special_tokens=False)["input_ids"], key=len)
        groups = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
        for group in rng.sample(groups, len(groups)):
            if recipe.cuts == 1:
                pairs = [cut_one(ids, words, rng) for ids in group]
            else:
                pairs = [cut_several(ids, cuts, words, rng) for ids in group]
            source = _padded([source for source, _ in pairs], pad)
            labels = _padded([target for _, target in pairs], _IGNORED)
            yield {"input_ids": source, "attention_mask": source != pad, "labels": labels}


def _row_sizes(recipe: Recipe, read: int) -> tuple[int, int]:
    """Most sentences of a row and most words cut out of it, after `read` documents."""
    if read < recipe.simple:
        return 1, 1
    if recipe.long_from is not None and read >= recipe.long_from:
        return SENTENCES_LONG, recipe.cuts + 1
    return SENTENCES, recipe.cuts


def _padded(rows: list[list[int]], fill: int) -> Tensor:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows])


def build_t5(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> T5ForConditionalGeneration:
    """A T5 of version 1.0 without dropout, with random weights from `seed`."""
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


def grow_t5(model: T5ForConditionalGeneration, blocks: int, seed: int) -> T5ForConditionalGeneration:
    """A copy of the model with new blocks at the end of its decoder, with random weights from `seed`."""
    config = copy.deepcopy(model.config)
    config.update({"num_decoder_layers": len(model.decoder.block) + blocks})
    torch.manual_seed(seed)
    grown = T5ForConditionalGeneration(config)
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown
