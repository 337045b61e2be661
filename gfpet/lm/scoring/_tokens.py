"""Tokenisation: one rule for scoring, for fitting `W_plug`, and for healing.

The rule is that of lm-evaluation-harness (`TemplateLM._encode_pair`): tokenise context and candidate together; the
candidate's tokens are those after the first n, where n is the length of the context tokenised alone. A SentencePiece
tokenizer puts a `▁` before every text, so tokenising a candidate alone would add a second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.errors import ModelError

Tokens = tuple[int, ...]


def pad_token(tokenizer: Any) -> int:
    """The padding token, or else end of text, beginning of text, unknown, or 0. No text token attends to it."""
    for name in ("pad_token_id", "eos_token_id", "bos_token_id", "unk_token_id"):
        token: int | None = getattr(tokenizer, name, None)
        if token is not None:
            return token
    return 0


def text_tokens(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Tokens of each text, with the tokenizer's beginning-of-text tokens but without end-of-text tokens."""
    start = start_tokens(tokenizer)
    return [(*start, *ids) for ids in plain_tokens(tokenizer, texts)]


def plain_tokens(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Tokens of each text, without special tokens."""
    return [tuple(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []


def pair_tokens(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> list[tuple[Tokens, Tokens]]:
    """Tokens of each context and of its continuation, tokenised together.

    Trailing spaces of a context move to the continuation, as in lm-evaluation-harness.
    """
    moved = [(context.rstrip(" "), context[len(context.rstrip(" ")) :] + text) for context, text in pairs]
    contexts = dict.fromkeys(context for context, _ in moved)
    lengths = {text: len(ids) for text, ids in zip(contexts, text_tokens(tokenizer, list(contexts)), strict=True)}
    wholes = text_tokens(tokenizer, [context + text for context, text in moved])
    return [
        (whole[: lengths[context]], whole[lengths[context] :])
        for (context, _), whole in zip(moved, wholes, strict=True)
    ]


def start_tokens(tokenizer: Any) -> Tokens:
    """The special tokens that the tokenizer puts before a text, e.g. `<s>` of Llama 2.

    Raises:
        ModelError: its special tokens change how the text is tokenised.
    """
    plain, full = (tuple(tokenizer(["a"], add_special_tokens=add)["input_ids"][0]) for add in (False, True))
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start]
    raise ModelError(
        f"the tokenizer cuts 'a' into {full} with its special tokens and into {plain} without: where a text begins "
        "cannot be told. Use a tokenizer that only adds tokens before and after the text."
    )


def shortened(context: Tokens, start: Tokens, room: int) -> Tokens:
    """`start` and the end of a context, `room` tokens in all; a context that fits stays unchanged."""
    return context if len(context) <= room else start + context[len(context) - max(0, room - len(start)) :]
