"""Examples as token rows, and rows as padded batches.

A *row* is one sequence that the model reads. If all candidates of an example are single tokens, the example has one
row: its context, scored at its last position. Otherwise each candidate has its own row: context and candidate.

    row:   c c c c c a a a .        c context, a candidate, . padding (on the right, so causal models need no mask)
    read:          ^ ^ ^            positions whose outputs predict the candidate's tokens

The encoder of an encoder-decoder reads the context, and its decoder the candidate, both in the template of pretraining
(`gfpet.lm.families.Template`; for T5: e = <extra_id_0> </s>, s = the start token and <extra_id_0>):

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
    """One sequence and the candidates scored in it."""

    tokens: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    """Token ids of each candidate scored in this row."""
    start: int
    """Position whose output predicts the first token of each target."""
    source: tuple[int, ...] = ()
    """Tokens of the encoder; empty without one."""

    @property
    def texts(self) -> dict[str, tuple[int, ...]]:
        """Tokens by stack."""
        return {"encoder": self.source, "decoder": self.tokens} if self.source else {"decoder": self.tokens}

    @property
    def size(self) -> int:
        """Number of tokens over all stacks."""
        return len(self.tokens) + len(self.source)


@dataclass(frozen=True)
class EncodedExample:
    """An example as rows."""

    rows: tuple[Row, ...]
    first_row: int
    """Number of its first row among all rows of its set; the key into the activation cache."""
    gold: tuple[int, ...]
    candidates: int
    cut: int = 0
    """Number of context tokens cut to fit `max_length`."""


@dataclass(frozen=True)
class Batch:
    """Padded rows of some examples, and the positions that predict the candidates' tokens."""

    texts: Texts
    """The rows of each stack."""
    row_numbers: tuple[int, ...]
    """Each row's number among all rows of its set."""
    read_row: Int[Tensor, " reads"]
    """Row of each read: a position whose output is scored."""
    read_position: Int[Tensor, " reads"]
    target_read: Int[Tensor, " targets"]
    """For each candidate token: index of the read that predicts it."""
    target_token: Int[Tensor, " targets"]
    target_candidate: Int[Tensor, " targets"]
    """For each candidate token: its flat candidate index, `example * width + candidate`."""
    gold: Bool[Tensor, "examples width"]
    exists: Bool[Tensor, "examples width"]
    """False for the padding of examples with fewer than `width` candidates."""
    one_position: bool
    """Whether all candidates of an example share one read, so that the normaliser over the vocabulary cancels."""

    @property
    def size(self) -> int:
        """Number of padded tokens; memory grows with it."""
        return sum(text.ids.numel() for text in self.texts.values())

    @property
    def is_real(self) -> Mapping[str, Tensor]:
        """By stack, `[rows, length]`: False at padding."""
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
    """Tokenise examples (`gfpet.lm.scoring._tokens` explains the rule).

    If a row exceeds `max_length` tokens, the context loses its beginning. All candidates of an example lose the same
    tokens, so that they share one context. `EncodedExample.cut` counts the lost tokens.

    Args:
        template: required for an encoder-decoder; `max_length` then limits each stack.

    Raises:
        DataError: a candidate alone does not fit in `max_length`, or has no token of its own.
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
    """Rows of contexts and candidates, and the number of tokens that the longest context lost.

    Args:
        start: tokens that begin every context, and stay when it is cut.
        filler: replaces an empty context, because some token must predict the candidate's first token.
    """
    # The last token of a candidate predicts nothing that is scored, so the row omits it.
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
    """Rows of an encoder-decoder."""
    room = max(0, max_length - len(template.source_end))
    source = context[max(0, len(context) - room) :] + template.source_end
    last = len(template.start) - 1
    if all(len(candidate) == 1 for candidate in candidates):
        return (Row(template.start, tuple(candidates), last, source),)
    return tuple(Row(template.start + candidate[:-1], (candidate,), last, source) for candidate in candidates)


def collate(encoded: Sequence[EncodedExample], *, pad: int) -> Batch:
    """One batch of some examples' rows, padded on the right with `pad`."""
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
    """Batches of `size` examples, each with the indices of its examples.

    Args:
        order: order of the examples; None sorts them from longest to shortest, which pads least.
    """
    if order is None:
        order = sorted(range(len(encoded)), key=lambda index: -max(row.size for row in encoded[index].rows))
    for start in range(0, len(order), size):
        indices = list(order[start : start + size])
        yield indices, collate([encoded[index] for index in indices], pad=pad)
