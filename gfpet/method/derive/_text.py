"""Text without labels: contexts alone, no candidate and no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.data.examples import Example
from gfpet.lm.families import Template
from gfpet.lm.scoring import EncodedExample, Row, templated_rows


def contexts(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, template: Template | None = None
) -> list[EncodedExample]:
    """One token row an example; too long a one loses its beginning.

    With the template of an encoder-decoder, the encoder reads the context and the decoder its start alone. The rows are
    only read: the one target that the form asks for has no meaning.
    """
    encoded = []
    texts = tokenizer([example.context for example in examples], add_special_tokens=False)["input_ids"]
    for number, text in enumerate(texts):
        tokens = tuple(text)[-max_length:] or (tokenizer.eos_token_id,)
        if template is None:
            row = Row(tokens, ((tokens[-1],),), 0)
        else:
            row = templated_rows(tokens, [(tokens[-1],)], max_length, template)[0]
        encoded.append(EncodedExample((row,), number, (0,), 1))
    return encoded
