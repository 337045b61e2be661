"""WSC: a text, a span of it and a pronoun; the model ranks the span among other spans of the text.

The check only requires a span's index to lie within the text, because in the official files about a hundred spans
differ from the words at their index in case, punctuation or (once) position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import model_validator

from gfpet.data.examples import Example
from gfpet.data.formats._format import Flat, RowFormat
from gfpet.data.formats._spans import other_spans
from gfpet.data.formats._types import Index, StrictRow, Text, within
from gfpet.data.rows import RawRow
from gfpet.data.task import Candidates, Task
from gfpet.data.templates import fill

_TARGET = ("span1_index", "span1_text", "span2_index", "span2_text")


class WscTarget(StrictRow):
    """A span and a pronoun; indices count the words of the text, separated by white space."""

    span1_index: int
    span1_text: Text
    span2_index: int
    span2_text: Text


class WscRow(StrictRow):
    """Winograd schema challenge: does the pronoun (span 2) refer to span 1?"""

    idx: Index
    text: Text
    target: WscTarget
    label: bool

    @model_validator(mode="after")
    def _offsets(self) -> WscRow:
        words = len(self.text.split())
        for field, start in (
            ("target.span1_index", self.target.span1_index),
            ("target.span2_index", self.target.span2_index),
        ):
            within(field, start, start + 1, words, "words")
        return self


def _examples(task: Task, name: str, row: WscRow) -> Iterator[Example]:
    """Span 1 is candidate 0. If the pronoun does not refer to it, every other candidate is right."""
    target = row.target
    others = other_spans(row.text, target.span1_text, target.span1_index, target.span2_text, target.span2_index)
    spans = (target.span1_text, *others)
    template = (task.candidates or Candidates()).template
    yield Example(
        id=name,
        context=fill(task.template, {"text": row.text, "pronoun": target.span2_text}),
        candidates=tuple(fill(template, {"span": span}) for span in spans),
        labels=spans,
        gold=(0,) if row.label else tuple(range(1, len(spans))),
    )


def _from_hub(_: Task, name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
    """The hub has the target's fields at the top level, and a numeric label."""
    for number, row in rows:
        value = {key: item for key, item in row.items() if key not in _TARGET}
        value["target"] = {key: row[key] for key in _TARGET}
        value["label"] = {0: False, 1: True}.get(row["label"])
        yield RawRow(f"{name}:{number}", value)


FORMAT = RowFormat(
    reader=lambda _: WscRow.model_validate,
    examples=_examples,
    hub_columns=lambda _: ("text", "span1_index", "span2_index", "span1_text", "span2_text", "idx", "label"),
    from_hub=_from_hub,
    context_fields=frozenset({"text", "pronoun"}),
    candidate_fields=frozenset({"span"}),
    makes_candidates=True,
)
