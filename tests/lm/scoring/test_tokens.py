"""Tokenization: context and candidate are tokenized together, after the tokens that a model expects at the start."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from gfpet.data.examples import Example
from gfpet.errors import ModelError
from gfpet.lm.scoring import Split, encode, pad_token, pair_tokens, start_tokens, text_tokens
from tests.tiny import END, ByteTokenizer

CONTEXT = "the man was not sure? Answer:"


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """A tokenizer like those of Llama 2 and Mistral: `▁` before every text, `<s>` before the first token."""
    words = ["▁the", "▁man", "▁was", "▁not", "▁sure", "?", "▁Answer", ":", "▁Yes", "▁No", "▁", "Yes", "No"]
    letters = sorted({letter for word in words for letter in word} - {"▁", "?", ":"})
    vocabulary = {token: number for number, token in enumerate(["<unk>", "<s>", "</s>", *letters, *words])}
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            left, right = word[: end - 1], word[end - 1]
            vocabulary.setdefault(left, len(vocabulary))
            if (left, right) not in merges:
                merges.append((left, right))
            vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def example(context: str = CONTEXT, candidates: tuple[str, ...] = (" Yes", " No")) -> Example:
    return Example("x/0", context, candidates, tuple(candidates), (0,))


def test_a_candidate_is_tokenised_with_its_context_behind_the_beginning_of_text() -> None:
    tokenizer = sentencepiece_like()
    [encoded] = encode([example()], tokenizer, max_length=40)
    [row] = encoded.rows
    names: Any = tokenizer.convert_ids_to_tokens
    assert names(row.tokens)[:2] == ["<s>", "▁the"]
    assert [names(target) for target in row.targets] == [["▁Yes"], ["▁No"]]
    assert names(tokenizer(" Yes", add_special_tokens=False)["input_ids"])[0] == "▁", "by itself it would be two tokens"
    assert [*row.tokens, *row.targets[0]] == tokenizer(CONTEXT + " Yes")["input_ids"]


def test_a_cut_context_keeps_the_beginning_of_text() -> None:
    [whole] = encode([example()], sentencepiece_like(), max_length=40)
    [short] = encode([example()], sentencepiece_like(), max_length=4)
    assert short.rows[0].tokens == (1, *whole.rows[0].tokens[-3:])
    assert short.cut == len(whole.rows[0].tokens) - 4


def test_spaces_at_the_end_of_a_context_go_to_the_candidate() -> None:
    assert pair_tokens(ByteTokenizer(), [("ab  ", "c")]) == [((*b"ab",), (*b"  c",))]


def test_special_tokens_are_found_by_what_the_tokenizer_adds() -> None:
    assert start_tokens(ByteTokenizer()) == ()
    assert start_tokens(sentencepiece_like()) == (1,)
    assert text_tokens(sentencepiece_like(), ["the"])[0][0] == 1

    class Odd(ByteTokenizer):
        def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
            return {"input_ids": [[7] if add_special_tokens else [1, 2] for _ in texts]}

    with pytest.raises(ModelError, match="where a text begins cannot be told"):
        start_tokens(Odd())


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ({"pad_token_id": 5, "eos_token_id": 6}, 5),
        ({"eos_token_id": END}, END),
        ({"bos_token_id": 3, "unk_token_id": 4}, 3),
        ({"unk_token_id": 4}, 4),
        ({}, 0),
    ],
)
def test_padding_takes_what_there_is(ids: dict[str, int], wanted: int) -> None:
    class Tokens:
        pad_token_id = eos_token_id = bos_token_id = unk_token_id = None

    tokens: Any = Tokens()
    for name, value in ids.items():
        setattr(tokens, name, value)
    assert pad_token(tokens) == wanted


def test_a_split_knows_which_share_of_its_contexts_was_cut() -> None:
    rows = [example("ab", ("y", "n")), example("abcdefgh", ("y", "n"))]
    assert Split(rows, encode(rows, ByteTokenizer(), max_length=5)).cut_share == 0.5
    assert Split(rows, encode(rows, ByteTokenizer(), max_length=50)).cut_share == 0.0
