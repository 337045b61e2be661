"""Documents with their facts cut out, and the embedded T5 pair that learned to fill them in."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from gfpet.world.lexicon import KINDS, VALUES
from gfpet.world.pretrain import Recipe, Shape, pretrain
from gfpet.world.prose import corpus
from gfpet.world.spans import cut_out, fact_tokens, rows_of, span_batches
from gfpet.world.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
MARK = TOKENIZER.convert_tokens_to_ids("<extra_id_0>")
END, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
TINY = Shape(width=16, layers=1, heads=1, ffn=32)
BRIEF = Recipe(steps=30, batch=4, warmup=5)


def test_what_is_cut_out_and_what_is_left_make_the_row_again() -> None:
    rng, facts, cut, rows = random.Random(0), fact_tokens(TOKENIZER), 0, 0
    for text in islice(corpus(3), 200):
        for row in rows_of(text):
            ids = TOKENIZER(row, add_special_tokens=False)["input_ids"]
            source, target = cut_out(ids, facts, MARK, END, rng)
            assert (target[0], target[2], source[-1], source.count(MARK)) == (MARK, END, END, 1)
            assert [target[1] if token == MARK else token for token in source[:-1]] == ids
            cut, rows = cut + (target[1] in facts), rows + 1
    assert 0.6 < cut / rows < 0.9


def test_the_rows_of_a_document_hold_all_its_sentences_once() -> None:
    for text in islice(corpus(4), 50):
        opener = text.split()[0]
        rows = rows_of(text)
        assert all(row.startswith(f"{opener} ") and row.endswith(".") for row in rows)
        assert " ".join((opener, *(row.removeprefix(f"{opener} ") for row in rows))) == text


def test_facts_are_single_tokens_of_values_and_kinds() -> None:
    words = [*(value for values in VALUES.values() for value in values), *KINDS]
    assert len(words) == 20
    assert sorted(TOKENIZER.convert_ids_to_tokens(list(fact_tokens(TOKENIZER)))) == sorted(f"Ġ{word}" for word in words)


def test_batches_are_padded_and_drawn_by_the_seed() -> None:
    recipe = Recipe(steps=1, batch=4)
    one, again, other = (list(islice(span_batches(TOKENIZER, replace(recipe, seed=seed)), 3)) for seed in (0, 0, 1))
    for batch, same in zip(one, again, strict=True):
        assert all(torch.equal(batch[name], same[name]) for name in batch)
        assert torch.equal(batch["attention_mask"], batch["input_ids"] != PAD)
        assert batch["labels"].shape == (4, 3)
        assert batch["input_ids"][:, 0].ne(PAD).all()
    assert any(not torch.equal(batch["labels"], each["labels"]) for batch, each in zip(one, other, strict=True))


def test_it_learns_and_what_it_saves_loads(tmp_path: Path) -> None:
    curve = pretrain("t5", "small", tmp_path / "one", TINY, BRIEF, every=10)
    assert curve[-1].loss < curve[0].loss
    assert all(point.tokens_per_second > 0 for point in curve)
    pretrain("t5", "small", tmp_path / "two", TINY, BRIEF)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "one")
    assert (model.config.d_model, model.config.vocab_size) == (16, len(TOKENIZER))
    assert len(AutoTokenizer.from_pretrained(tmp_path / "one")) == len(TOKENIZER)
