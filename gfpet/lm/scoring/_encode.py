"""Examples as token rows, and rows as padded batches.

A *row* is one sequence that the model reads. Where all candidates of an example are single tokens, one row serves the
whole example: its context, scored at its last position. Otherwise each candidate has a row: context and candidate.

    row:   c c c c c a a a .        c context, a candidate, . padding (always right, so causal models need no mask)
    read:          ^ ^ ^            positions whose outputs predict the candidate's tokens

An encoder-decoder reads the context in its encoder, and the candidate in its decoder, each in the template of
pretraining (`gfpet.lm.families.Template`; for T5: e = <extra_id_0> </s>, s = the start token and <extra_id_0>):

    source:  c c c c c e e
    row:     s s a a a .
    read:      ^ ^ ^
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gfpet.data.examples import Example
from gfpet.errors import DataError
from gfpet.lm.families import Padded, Template, Texts
from gfpet.lm.scoring._tokens import pad_token, pair_tokens, plain_tokens, shortened, start_tokens


@dataclass(frozen=True)
class Row:
    """One sequence and what is scored in it."""

    tokens: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    """Token ids of each candidate scored in this row."""
    start: int
    """Position whose output predicts the first token of each target."""
    source: tuple[int, ...] = ()
    """What the encoder reads, where there is one."""

    @property
    def texts(self) -> dict[str, tuple[int, ...]]:
        """Tokens by the stack that reads them."""
        return {"encoder": self.source, "decoder": self.tokens} if self.source else {"decoder": self.tokens}

    @property
    def size(self) -> int:
        """Tokens over all stacks."""
        return len(self.tokens) + len(self.source)


@dataclass(frozen=True)
class EncodedExample:
    """An example as rows."""

    rows: tuple[Row, ...]
    first_row: int
    """Number of its first row among all rows of its set; cached activations are found by it."""
    gold: tuple[int, ...]
    candidates: int
    cut: int = 0
    """Tokens that its context lost to `max_length`."""


@dataclass(frozen=True)
class Batch:
    """Padded rows of some examples, and where in them the candidates' tokens are predicted."""

    texts: Texts
    """What each stack reads."""
    row_numbers: tuple[int, ...]
    """Each row's number among all rows of its set."""
    read_row: Int[Tensor, " reads"]
    """The row of each position that is read out."""
    read_position: Int[Tensor, " reads"]
    target_read: Int[Tensor, " targets"]
    """For each candidate token: which of the reads predicts it."""
    target_token: Int[Tensor, " targets"]
    target_candidate: Int[Tensor, " targets"]
    """For each candidate token: the candidate, counted over examples and padding, `example * width + candidate`."""
    gold: Bool[Tensor, "examples width"]
    exists: Bool[Tensor, "examples width"]
    """False where an example has fewer candidates than the batch's width."""
    one_position: bool
    """All candidates of an example share one read, so the normaliser over the vocabulary cancels."""

    @property
    def size(self) -> int:
        """Padded tokens; what memory grows with."""
        return sum(text.ids.numel() for text in self.texts.values())

    @property
    def is_real(self) -> Mapping[str, Tensor]:
        """By stack, `[rows, length]`: False where a row is padding."""
        return {stack: text.is_real for stack, text in self.texts.items()}

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        texts = {stack: text.to(device) for stack, text in self.texts.items()}
        return Batch(**moved, texts=texts, row_numbers=self.row_numbers, one_position=self.one_position)


_TENSORS = ("read_row", "read_position", "target_read", "target_token", "target_candidate", "gold", "exists")


def encode(
    examples: Sequence[Example], tokenizer: Any, *, max_length: int, template: Template | None = None
) -> list[EncodedExample]:
    """Tokenise examples (`gfpet.lm.scoring._tokens` has the rule).

    Where a row would be longer than `max_length` tokens, the context loses its beginning, as much for every candidate
    of an example, so that all see the same context. `EncodedExample.cut` counts the lost tokens.

    Args:
        template: of an encoder-decoder; `max_length` then limits what either stack reads.

    Raises:
        DataError: a candidate alone is as long as `max_length`, or has no token of its own.
    """
    start = start_tokens(tokenizer) if template is None else ()
    if template is None:
        pairs = pair_tokens(tokenizer, [(each.context, text) for each in examples for text in each.candidates])
    else:
        sources = plain_tokens(tokenizer, [example.context for example in examples])
        texts = sorted({candidate for example in examples for candidate in example.candidates})
        ids = dict(zip(texts, plain_tokens(tokenizer, texts), strict=True))
        pairs = [
            (source, ids[text]) for each, source in zip(examples, sources, strict=True) for text in each.candidates
        ]
    encoded, row_count, first = [], 0, 0
    for example in examples:
        parts = pairs[first : first + len(example.candidates)]
        first += len(example.candidates)
        for text, (_, tokens) in zip(example.candidates, parts, strict=True):
            if not 0 < len(tokens) < max_length - len(start):
                raise DataError(
                    f"example {example.id}: candidate {text!r} has {len(tokens)} tokens; "
                    f"1 to {max_length - len(start) - 1} fit in models.max_length={max_length}."
                )
        if template is None:
            rows, cut = _rows(parts, start, max_length, pad_token(tokenizer))
        else:
            source, room = parts[0][0], max(0, max_length - len(template.source_end))
            rows = templated_rows(source, [tokens for _, tokens in parts], max_length, template)
            cut = max(0, len(source) - room)
        encoded.append(EncodedExample(rows, row_count, example.gold, len(parts), cut))
        row_count += len(rows)
    return encoded


def _rows(
    parts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], start: tuple[int, ...], max_length: int, filler: int
) -> tuple[tuple[Row, ...], int]:
    """Rows of contexts and candidates, and how many tokens the longest context lost.

    Args:
        start: what every context begins with, and keeps when it is cut.
        filler: stands for a context without tokens: something has to predict the candidate's first one.
    """
    # The last token of a candidate predicts nothing that is scored, so it need not be read.
    room = max_length - max(len(candidate) for _, candidate in parts) + 1
    cut = max(0, max(len(context) for context, _ in parts) - room)
    contexts = [shortened(context, start, room) or (filler,) for context, _ in parts]
    candidates = [candidate for _, candidate in parts]
    if all(len(candidate) == 1 for candidate in candidates) and len(set(contexts)) == 1:
        return (Row(contexts[0], tuple(candidates), len(contexts[0]) - 1),), cut
    rows = tuple(
        Row(context + candidate[:-1], (candidate,), len(context) - 1)
        for context, candidate in zip(contexts, candidates, strict=True)
    )
    return rows, cut


def templated_rows(
    context: tuple[int, ...], candidates: list[tuple[int, ...]], max_length: int, template: Template
) -> tuple[Row, ...]:
    """The rows of an encoder-decoder."""
    room = max(0, max_length - len(template.source_end))
    source = context[max(0, len(context) - room) :] + template.source_end
    last = len(template.start) - 1
    if all(len(candidate) == 1 for candidate in candidates):
        return (Row(template.start, tuple(candidates), last, source),)
    return tuple(Row(template.start + candidate[:-1], (candidate,), last, source) for candidate in candidates)


def collate(encoded: Sequence[EncodedExample], *, pad: int) -> Batch:
    """Rows of some examples as one batch, padded on the right with `pad`."""
    width = max(example.candidates for example in encoded)
    rows = [row for example in encoded for row in example.rows]
    reads: dict[tuple[int, int], int] = {}
    targets: list[tuple[int, int, int]] = []
    gold = torch.zeros(len(encoded), width, dtype=torch.bool)
    exists = torch.zeros(len(encoded), width, dtype=torch.bool)
    row_number, row_numbers = 0, []
    for index, example in enumerate(encoded):
        gold[index, list(example.gold)] = True
        exists[index, : example.candidates] = True
        candidate = index * width
        for offset, row in enumerate(example.rows):
            for target in row.targets:
                for step, token in enumerate(target):
                    read = reads.setdefault((row_number, row.start + step), len(reads))
                    targets.append((read, token, candidate))
                candidate += 1
            row_numbers.append(example.first_row + offset)
            row_number += 1
    read_row, read_position = torch.tensor(list(reads)).T
    target_read, target_token, target_candidate = torch.tensor(targets).T
    return Batch(
        texts={stack: _padded([row.texts[stack] for row in rows], pad) for stack in rows[0].texts},
        row_numbers=tuple(row_numbers),
        read_row=read_row,
        read_position=read_position,
        target_read=target_read,
        target_token=target_token,
        target_candidate=target_candidate,
        gold=gold,
        exists=exists,
        one_position=len(rows) == len(encoded),
    )


def _padded(rows: Sequence[tuple[int, ...]], pad: int) -> Padded:
    ids = torch.full((len(rows), max(len(row) for row in rows)), pad, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return Padded(ids, tuple(len(row) for row in rows))


def batches(
    encoded: Sequence[EncodedExample], *, size: int, pad: int, order: Sequence[int] | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of `size` examples with the indices of their examples.

    Args:
        order: the order of examples; without one, by length, which pads least and starts with the longest.
    """
    if order is None:
        order = sorted(range(len(encoded)), key=lambda index: -max(row.size for row in encoded[index].rows))
    for start in range(0, len(order), size):
        indices = list(order[start : start + size])
        yield indices, collate([encoded[index] for index in indices], pad=pad)
