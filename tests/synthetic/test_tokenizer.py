"""The tokenizer of the synthetic benchmark: one token per word, and lossless for any text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gfpet.synthetic import TASKS, corpus, generate
from gfpet.synthetic.tokenizer import END, SENTINELS, build_tokenizer
from tests.synthetic.examples import examples_of

TOKENIZER = build_tokenizer()
MARKS = set(".,:?@\n ")


def round_trip(text: str) -> str:
    return str(TOKENIZER.decode(TOKENIZER(text)["input_ids"]))


def stray_bytes(text: str) -> set[str]:
    """Tokens of `text` that are single bytes, except punctuation."""
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER(text)["input_ids"])
    return {token for token in tokens if len(token) == 1} - {"Ċ"} - MARKS - {"a"}


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_survives(text: str) -> None:
    assert round_trip(text) == text


@pytest.mark.parametrize("text", ["", " ", "  two  spaces ", "tab\tnew\r\nline\n", "naïve 漢字 🙂 e\u0301", "a<pad>b"])
def test_odd_texts_survive(text: str) -> None:
    assert round_trip(text) == text


def test_real_superglue_survives(superglue: Path) -> None:
    files = sorted(superglue.glob("*/*.jsonl"))
    assert files
    for file in files:
        with file.open(encoding="utf-8") as lines:
            for batch in iter(lambda: list(islice(lines, 512)), []):
                assert TOKENIZER.batch_decode(TOKENIZER(batch)["input_ids"]) == batch


def test_verbalizers_are_single_tokens() -> None:
    for word in (" Yes", " No", " Maybe"):
        assert len(TOKENIZER(word)["input_ids"]) == 1


def test_size_and_special_tokens() -> None:
    assert 600 <= len(TOKENIZER) <= 1500
    assert TOKENIZER.eos_token == TOKENIZER.bos_token == END
    assert TOKENIZER.pad_token != END
    sentinels = [TOKENIZER.convert_tokens_to_ids(f"<extra_id_{number}>") for number in range(SENTINELS)]
    assert len({*sentinels, TOKENIZER.eos_token_id, TOKENIZER.pad_token_id}) == SENTINELS + 2


def test_the_text_of_the_benchmark_takes_one_token_a_word() -> None:
    for document in islice(corpus(0), 2000):
        assert stray_bytes(document) == set(), document


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_prompts_take_one_token_a_word(task: str) -> None:
    rows, _ = generate(task, 0, 300, 0)
    for example in examples_of(task, "train", rows):
        for candidate in example.candidates:
            assert stray_bytes(example.context + candidate) == set(), example.context + candidate
        assert len(TOKENIZER(example.context + example.candidates[0])["input_ids"]) <= 48


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(read, PreTrainedTokenizerFast)
    assert read.get_vocab() == TOKENIZER.get_vocab()
    text = "Today Bado went home.\nQuestion: is it so?\nAnswer: Yes ü"
    assert read(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert read.decode(read(text)["input_ids"]) == text
