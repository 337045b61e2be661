"""Unlabelled text: contexts alone, without candidates or answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.data.examples import Example
from gfpet.lm.families import Template
from gfpet.lm.scoring import (
    EncodedExample,
    Row,
    pad_token,
    plain_tokens,
    shortened,
    start_tokens,
    templated_rows,
    text_tokens,
)


def contexts(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, template: Template | None = None
) -> list[EncodedExample]:
    """One token row per example. Long rows lose their beginning.

    With the template of an encoder-decoder, the encoder reads the context and the decoder only its start tokens. The
    rows are never scored: `Row` requires a target, and the one here has no meaning.
    """
    encoded = []
    start = start_tokens(tokenizer) if template is None else ()
    tokens_of = text_tokens if template is None else plain_tokens
    for number, text in enumerate(tokens_of(tokenizer, [example.context for example in examples])):
        tokens = shortened(text, start, max_length) or (pad_token(tokenizer),)
        if template is None:
            row = Row(tokens, ((tokens[-1],),), 0)
        else:
            row = templated_rows(tokens, [(tokens[-1],)], max_length, template)[0]
        encoded.append(EncodedExample((row,), number, (0,), 1))
    return encoded
