"""Text that both models read: the context of an example, and its right answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.data.examples import Example
from gfpet.lm.families import Template
from gfpet.lm.scoring import EncodedExample, Row, templated_rows


def read_through(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, template: Template | None = None
) -> list[EncodedExample]:
    """One token row an example: its context and its first right candidate; too long a row loses its beginning.

    With the template of an encoder-decoder, the encoder reads the context and the decoder the candidate.

    Context and candidate are tokenised apart, as they are where candidates are scored. The rows are only read: the one
    target that the form asks for has no meaning.
    """
    contexts = tokenizer([example.context for example in examples], add_special_tokens=False)["input_ids"]
    answers = tokenizer([each.candidates[each.gold[0]] for each in examples], add_special_tokens=False)["input_ids"]
    encoded = []
    for number, (context, answer) in enumerate(zip(contexts, answers, strict=True)):
        if template is not None:
            row = templated_rows(tuple(context), [(*answer, tokenizer.eos_token_id)], max_length, template)[0]
            encoded.append(EncodedExample((row,), number, (0,), 1))
            continue
        tokens = (tuple(context) + tuple(answer))[-max_length:] or (tokenizer.eos_token_id,)
        encoded.append(EncodedExample((Row(tokens, ((tokens[-1],),), 0),), number, (0,), 1))
    return encoded
