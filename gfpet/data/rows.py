"""Rows of SuperGLUE in the form of the official release, and the check that each is whole.

The official files themselves bend their form in two places that are accepted here: three MultiRC answer options of the
training split are empty, and about a hundred WSC spans differ from the words at their index in case, punctuation or
(once) position, so that a span's index is only held within the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

PLACEHOLDER = "@placeholder"


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair at character {error.start}") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("empty")
    return text


AnyText = Annotated[str, AfterValidator(_encodable)]
Text = Annotated[AnyText, AfterValidator(_not_blank)]
Index = Annotated[int, Field(ge=0)]
Bit = Annotated[int, Field(ge=0, le=1)]


class _Row(BaseModel):
    """Types are strict (1 is no bool, "1" no int); keys that no prompt needs are left aside."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class BoolqRow(_Row):
    """BoolQ: a yes-no question about a passage."""

    idx: Index
    passage: Text
    question: Text
    label: bool


class CbRow(_Row):
    """CommitmentBank: does the premise commit its author to the hypothesis?"""

    idx: Index
    premise: Text
    hypothesis: Text
    label: Literal["entailment", "contradiction", "neutral"]


class RteRow(_Row):
    """Recognising textual entailment."""

    idx: Index
    premise: Text
    hypothesis: Text
    label: Literal["entailment", "not_entailment"]


class CopaRow(_Row):
    """Choice of plausible alternatives: cause or effect of a premise."""

    idx: Index
    premise: Text
    choice1: Text
    choice2: Text
    question: Literal["cause", "effect"]
    label: Bit


class WicRow(_Row):
    """Word in context: the same sense in two sentences? Offsets are of characters, the end exclusive."""

    idx: Index
    word: Text
    sentence1: Text
    sentence2: Text
    start1: int
    end1: int
    start2: int
    end2: int
    label: bool

    @model_validator(mode="after")
    def _offsets(self) -> WicRow:
        _within("start1, end1", self.start1, self.end1, len(self.sentence1))
        _within("start2, end2", self.start2, self.end2, len(self.sentence2))
        return self


class WscTarget(_Row):
    """A span and a pronoun; an index counts the words of the text, parted by white space."""

    span1_index: int
    span1_text: Text
    span2_index: int
    span2_text: Text


class WscRow(_Row):
    """Winograd schema challenge: does the pronoun (span 2) refer to span 1?"""

    idx: Index
    text: Text
    target: WscTarget
    label: bool

    @model_validator(mode="after")
    def _offsets(self) -> WscRow:
        words = len(self.text.split())
        _within("target.span1_index", self.target.span1_index, self.target.span1_index + 1, words, "words")
        _within("target.span2_index", self.target.span2_index, self.target.span2_index + 1, words, "words")
        return self


class MultircAnswer(_Row):
    """One answer option."""

    idx: Index
    text: AnyText
    label: Bit


class MultircQuestion(_Row):
    """A question and its answer options, any number of which are right."""

    idx: Index
    question: Text
    answers: Annotated[list[MultircAnswer], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> MultircQuestion:
        _distinct("answers", [answer.idx for answer in self.answers])
        return self


class MultircPassage(_Row):
    """A text and its questions."""

    text: Text
    questions: Annotated[list[MultircQuestion], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> MultircPassage:
        _distinct("questions", [question.idx for question in self.questions])
        return self


class MultircRow(_Row):
    """Multi-sentence reading comprehension."""

    idx: Index
    passage: MultircPassage


class RecordSpan(_Row):
    """Characters of the passage, the end inclusive."""

    start: int
    end: int


class RecordPassage(_Row):
    """A news text and the entities in it."""

    text: Text
    entities: list[RecordSpan]

    @model_validator(mode="after")
    def _offsets(self) -> RecordPassage:
        for number, span in enumerate(self.entities):
            _within(f"entities.{number}", span.start, span.end + 1, len(self.text))
            if not self.text[span.start : span.end + 1].strip():
                raise ValueError(f"entities.{number}: empty")
        if len(self.names) < 2:
            raise ValueError(f"entities: {len(self.names)} distinct, but at least two are needed to choose from")
        return self

    @property
    def names(self) -> list[str]:
        """Distinct texts of the entities in the order of their first mention in the list."""
        return list(dict.fromkeys(self.text[span.start : span.end + 1] for span in self.entities))


class RecordAnswer(_Row):
    """A right entity."""

    text: Text


class RecordQuery(_Row):
    """A sentence with one entity left out, and the entities that fill it."""

    idx: Index
    query: Text
    answers: Annotated[list[RecordAnswer], Field(min_length=1)]


class RecordRow(_Row):
    """Reading comprehension with commonsense reasoning."""

    idx: Index
    passage: RecordPassage
    qas: Annotated[list[RecordQuery], Field(min_length=1)]

    @model_validator(mode="after")
    def _answerable(self) -> RecordRow:
        _distinct("qas", [query.idx for query in self.qas])
        names = {name.lower() for name in self.passage.names}
        for number, query in enumerate(self.qas):
            if PLACEHOLDER not in query.query:
                raise ValueError(f"qas.{number}.query: no {PLACEHOLDER} in it")
            if not any(answer.text.lower() in names for answer in query.answers):
                raise ValueError(f"qas.{number}.answers: none of them is among the passage's entities")
        return self


Row = BoolqRow | CbRow | CopaRow | MultircRow | RecordRow | RteRow | WicRow | WscRow
ROWS: dict[str, type[Row]] = {
    "boolq": BoolqRow,
    "cb": CbRow,
    "copa": CopaRow,
    "multirc": MultircRow,
    "record": RecordRow,
    "rte": RteRow,
    "wic": WicRow,
    "wsc": WscRow,
}


def _within(name: str, start: int, end: int, length: int, unit: str = "characters") -> None:
    if not 0 <= start < end <= length:
        raise ValueError(f"{name}: {start} to {end} (exclusive) is not within the {length} {unit} of the text")


def _distinct(name: str, indices: Sequence[int]) -> None:
    if len(set(indices)) != len(indices):
        raise ValueError(f"{name}: an idx occurs twice")
