"""Documents with facts cut out, and the embedded T5 pair that was trained to fill them in."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

from gfpet.errors import ModelError
from gfpet.synthetic import spans
from gfpet.synthetic.facts import facts_of_seed
from gfpet.synthetic.lexicon import KINDS, STATEMENTS, VALUES
from gfpet.synthetic.pretrain import PAIRS, Growth, Recipe, Shape, pretrain
from gfpet.synthetic.prose import corpus
from gfpet.synthetic.spans import (
    OPEN_WORDS,
    Words,
    build_t5,
    cut_one,
    cut_several,
    grow_t5,
    rows_of,
    sentences_of,
    span_batches,
)
from gfpet.synthetic.tokenizer import build_tokenizer

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints" / "t5"
TOKENIZER = build_tokenizer()
WORDS = Words.of(TOKENIZER)
MARK = TOKENIZER.convert_tokens_to_ids("<extra_id_0>")
END, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
TINY = Shape(width=16, layers=1, heads=1, ffn=32)
BRIEF = Recipe(steps=30, batch=4, warmup=5)


@pytest.mark.parametrize("most", [1, 3])
def test_what_is_cut_out_and_what_is_left_make_the_row_again(most: int) -> None:
    rng, cut, rows, words = random.Random(0), 0, 0, 0
    for text in islice(corpus(3), 200):
        for row in sentences_of(text) if most == 1 else rows_of(text, 2, rng):
            ids = TOKENIZER(row, add_special_tokens=False)["input_ids"]
            source, target = cut_one(ids, WORDS, rng) if most == 1 else cut_several(ids, most, WORDS, rng)
            assert (source.pop(), target.pop()) == (END, END)
            filled = dict(zip(target[::2], target[1::2], strict=True))
            assert [token for token in source if token in filled] == list(WORDS.sentinels[: len(filled)])
            assert [filled.get(token, token) for token in source] == ids
            cut, rows, words = cut + (target[1] in WORDS.facts | WORDS.rare), rows + 1, words + len(filled)
    assert 0.6 < cut / rows < 0.95
    assert words == rows if most == 1 else 1.2 < words / rows < 2.5


def test_what_is_seldom_said_is_cut_out_before_the_rest() -> None:
    def words_cut(row: str) -> set[str]:
        ids = TOKENIZER(row, add_special_tokens=False)["input_ids"]
        drawn = (cut_several(ids, 1, WORDS, random.Random(seed))[1] for seed in range(400))
        found = Counter(TOKENIZER.decode([target[1]]).strip() for target in drawn)
        return {word for word, often in found.items() if often > 100}

    one, two = list(facts_of_seed().entities)[:2]
    assert words_cut(f"Now {one} eats bread. {one} is a ghost.") == {"ghost"}
    assert words_cut(f"Now {one} eats bread. Nobody knows where {one} lives.") == {"where"}
    assert words_cut(f"Now Of {one} and {two}, one eats bread: {two}.") == {two}
    assert words_cut(f"Now {one} eats bread and is red.") == {"bread", "red"}


def test_the_rows_of_a_document_hold_all_its_sentences_once() -> None:
    for text in islice(corpus(4), 50):
        opener = text.split()[0]
        for most in (1, 3):
            rows = sentences_of(text) if most == 1 else rows_of(text, most, random.Random(0))
            assert all(row.startswith(f"{opener} ") and row.endswith(".") for row in rows)
            assert all(1 <= row.count(".") <= most for row in rows)
            assert " ".join((opener, *(row.removeprefix(f"{opener} ") for row in rows))) == text


def test_facts_are_single_tokens_of_values_kinds_and_what_is_open() -> None:
    values = [value for values in VALUES.values() for value in values]
    for tokens, words in ((WORDS.facts, [*values, *KINDS]), (WORDS.rare, [*KINDS, *OPEN_WORDS])):
        assert sorted(TOKENIZER.convert_ids_to_tokens(list(tokens))) == sorted(f"Ġ{word}" for word in words)
    assert (len(WORDS.facts), len(WORDS.rare)) == (20, 8)


def test_batches_are_padded_and_drawn_by_the_seed() -> None:
    recipe = Recipe(steps=1, batch=4)
    one, again, other = (list(islice(span_batches(TOKENIZER, replace(recipe, seed=seed)), 3)) for seed in (0, 0, 1))
    for batch, same in zip(one, again, strict=True):
        assert all(torch.equal(batch[name], same[name]) for name in batch)
        assert torch.equal(batch["attention_mask"], batch["input_ids"] != PAD)
        assert batch["labels"].shape == (4, 3)
        assert batch["input_ids"][:, 0].ne(PAD).all()
    assert any(not torch.equal(batch["labels"], each["labels"]) for batch, each in zip(one, other, strict=True))


def test_rows_grow_with_the_documents_read() -> None:
    once = spans.DOCUMENTS_AT_ONCE
    recipe = Recipe(steps=1, batch=64, cuts=3, simple=once, long_from=2 * once)
    batches = list(islice(span_batches(TOKENIZER, recipe), 45))

    def words_cut_out(some: list[dict[str, Tensor]]) -> set[int]:
        return {(batch["labels"].shape[1] - 1) // 2 for batch in some}

    # These documents give 22 batches with one sentence per row, and 15 with up to two.
    assert words_cut_out(batches[:20]) == {1}
    assert max(words_cut_out(batches[24:34])) == recipe.cuts
    assert max(words_cut_out(batches[40:])) == recipe.cuts + 1
    # Labels after the end are padded with the index that the loss ignores.
    most = max(batches, key=lambda batch: batch["labels"].shape[1])["labels"]
    assert set(most[:, -1].tolist()) == {-100, END}
    longest = [
        max(batch["input_ids"].shape[1] for batch in some) for some in (batches[:20], batches[24:34], batches[40:])
    ]
    assert longest == sorted(longest)
    assert words_cut_out(list(islice(span_batches(TOKENIZER, replace(recipe, cuts=1)), 45))) == {1}


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


def test_growth_adds_blocks_behind_those_that_are_trained_and_goes_on(tmp_path: Path) -> None:
    growth = Growth(blocks=2, steps=20, rate=1e-3)
    curve = pretrain("t5", "small", tmp_path / "model", TINY, replace(BRIEF, growth=growth), every=10)
    assert [point.step for point in curve] == [10, 20, 30, 40, 50]
    config = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").config
    assert (config.num_layers, config.num_decoder_layers) == (TINY.layers, TINY.layers + growth.blocks)


def test_a_grown_model_starts_with_the_weights_that_were_trained() -> None:
    small = build_t5(TINY, TOKENIZER, 0)
    grown, other = (grow_t5(small, 1, seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(grown[name], weight) for name, weight in small.state_dict().items())
    new = set(grown) - set(small.state_dict())
    assert new == {name for name in grown if name.startswith("decoder.block.1.")}
    assert any(not torch.equal(grown[name], other[name]) for name in new)


def test_a_family_without_growth_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'gpt2' cannot grow"):
        pretrain("gpt2", "small", tmp_path / "model", TINY, replace(BRIEF, growth=Growth(blocks=1, steps=1, rate=1e-3)))


@pytest.fixture(scope="module")
def committed() -> dict[str, T5ForConditionalGeneration]:
    return {size: AutoModelForSeq2SeqLM.from_pretrained(CHECKPOINTS / size) for size in PAIRS["t5"].shapes}


def test_committed_checkpoints_have_the_documented_shapes(committed: dict[str, T5ForConditionalGeneration]) -> None:
    for size, shape in PAIRS["t5"].shapes.items():
        config = committed[size].config
        growth = PAIRS["t5"].recipes[size].growth
        assert growth is not None
        assert (config.d_model, config.num_layers, config.num_decoder_layers) == (
            shape.width,
            shape.layers,
            shape.layers + growth.blocks,
        )
        assert (config.num_heads, config.d_kv, config.d_ff, config.dropout_rate) == (shape.heads, 32, shape.ffn, 0.0)
    assert 0.1e6 <= committed["small"].num_parameters() <= 0.3e6
    assert 0.9e6 <= committed["large"].num_parameters() <= 2e6


def test_committed_checkpoints_are_small_and_share_the_tokenizer_that_the_builder_makes() -> None:
    files = [file for file in CHECKPOINTS.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 10_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    built = json.loads(TOKENIZER.backend_tokenizer.to_str())
    for size in PAIRS["t5"].shapes:
        assert json.loads((CHECKPOINTS / size / "tokenizer.json").read_text(encoding="utf-8")) == built


def recall(model: T5ForConditionalGeneration) -> float:
    """Fraction of all facts whose true value ranks first among the attribute's four values; guessing: 0.25."""
    rows, options, gold = [], [], []
    for entity in facts_of_seed().entities.values():
        for attribute, value in entity.attributes.items():
            before, after = STATEMENTS[attribute][0].format(name=entity.name, value="|").split("|")
            ids = [TOKENIZER(text, add_special_tokens=False)["input_ids"] for text in (f"Now {before.rstrip()}", after)]
            rows.append([*ids[0], MARK, *ids[1], END])
            options.append(
                [TOKENIZER(f" {each}", add_special_tokens=False)["input_ids"][0] for each in VALUES[attribute]]
            )
            gold.append(VALUES[attribute].index(value))
    source = torch.tensor([[*row, *[PAD] * (max(map(len, rows)) - len(row))] for row in rows])
    start = torch.tensor([[PAD, MARK]]).expand(len(rows), -1)
    with torch.inference_mode():
        logits = model(input_ids=source, attention_mask=source != PAD, decoder_input_ids=start, use_cache=False).logits[
            :, 1
        ]
    best = logits.gather(1, torch.tensor(options)).argmax(1)
    return float((best == torch.tensor(gold)).float().mean())


def test_committed_checkpoints_know_the_facts(committed: dict[str, T5ForConditionalGeneration]) -> None:
    for size, model in committed.items():
        assert recall(model) > 0.95, size
