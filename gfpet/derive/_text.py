"""Text without labels: contexts alone, no candidate and no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gfpet.data.examples import Example
from gfpet.families import Frame
from gfpet.scoring import EncodedExample, Row, framed_rows


def contexts(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, frame: Frame | None = None
) -> list[EncodedExample]:
    """One token row an example; too long a one loses its beginning.

    With the frame of an encoder-decoder, the encoder reads the context and the decoder its start alone. The rows are
    only read: the one target that the form asks for has no meaning.
    """
    encoded = []
    texts = tokenizer([example.context for example in examples], add_special_tokens=False)["input_ids"]
    for number, text in enumerate(texts):
        tokens = tuple(text)[-max_length:] or (tokenizer.eos_token_id,)
        if frame is None:
            row = Row(tokens, ((tokens[-1],),), 0)
        else:
            row = framed_rows(tokens, [(tokens[-1],)], max_length, frame)[0]
        encoded.append(EncodedExample((row,), number, (0,), 1))
    return encoded
