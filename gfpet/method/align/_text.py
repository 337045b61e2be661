"""The text that both models read: an example's context and its correct answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.data.examples import Example
from gfpet.lm.families import Template
from gfpet.lm.scoring import (
    EncodedExample,
    Row,
    pad_token,
    pair_tokens,
    plain_tokens,
    shortened,
    start_tokens,
    templated_rows,
)


def read_through(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, template: Template | None = None
) -> list[EncodedExample]:
    """One token row per example: its context and its first correct candidate. Long rows lose their beginning.

    With the template of an encoder-decoder, the encoder reads the context and the decoder the candidate.

    The rows are never scored: `Row` requires a target, and the one here has no meaning.
    """
    start = start_tokens(tokenizer) if template is None else ()
    answers = [each.candidates[each.gold[0]] for each in examples]
    if template is None:
        pairs = pair_tokens(tokenizer, [(each.context, text) for each, text in zip(examples, answers, strict=True)])
    else:
        contexts = plain_tokens(tokenizer, [example.context for example in examples])
        pairs = list(zip(contexts, plain_tokens(tokenizer, answers), strict=True))
    encoded = []
    for number, (context, answer) in enumerate(pairs):
        if template is not None:
            row = templated_rows(context, [(*answer, tokenizer.eos_token_id)], max_length, template)[0]
            encoded.append(EncodedExample((row,), number, (0,), 1))
            continue
        tokens = (shortened(context, start, max(0, max_length - len(answer))) + answer)[-max_length:] or (
            pad_token(tokenizer),
        )
        encoded.append(EncodedExample((Row(tokens, ((tokens[-1],),), 0),), number, (0,), 1))
    return encoded
