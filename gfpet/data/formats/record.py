"""ReCoRD: a passage with entities, and queries with a gap for an entity; one example for each query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from gfpet.data.examples import Example
from gfpet.data.formats._format import Flat, RowFormat
from gfpet.data.formats._types import Index, StrictRow, Text, distinct, within
from gfpet.data.rows import RawRow
from gfpet.data.task import Candidates, Task
from gfpet.data.templates import fill

PLACEHOLDER = "@placeholder"


class RecordSpan(StrictRow):
    """Character offsets in the passage; the end is inclusive."""

    start: int
    end: int


class RecordPassage(StrictRow):
    """A news text and its entities."""

    text: Text
    entities: list[RecordSpan]

    @model_validator(mode="after")
    def _offsets(self) -> RecordPassage:
        for number, span in enumerate(self.entities):
            within(f"entities.{number}", span.start, span.end + 1, len(self.text))
            if not self.text[span.start : span.end + 1].strip():
                raise ValueError(f"entities.{number}: empty")
        if len(self.names) < 2:
            raise ValueError(f"entities: {len(self.names)} distinct, but at least two are needed to choose from")
        return self

    @property
    def names(self) -> list[str]:
        """Distinct texts of the entities, in the order of the list."""
        return list(dict.fromkeys(self.text[span.start : span.end + 1] for span in self.entities))


class RecordAnswer(StrictRow):
    """A right entity."""

    text: Text


class RecordQuery(StrictRow):
    """A sentence with one entity left out, and the entities that fill it."""

    idx: Index
    query: Text
    answers: Annotated[list[RecordAnswer], Field(min_length=1)]


class RecordRow(StrictRow):
    """Reading comprehension with commonsense reasoning."""

    idx: Index
    passage: RecordPassage
    qas: Annotated[list[RecordQuery], Field(min_length=1)]

    @model_validator(mode="after")
    def _answerable(self) -> RecordRow:
        distinct("qas", [query.idx for query in self.qas])
        names = {name.lower() for name in self.passage.names}
        for number, query in enumerate(self.qas):
            if PLACEHOLDER not in query.query:
                raise ValueError(f"qas.{number}.query: no {PLACEHOLDER} in it")
            if not any(answer.text.lower() in names for answer in query.answers):
                raise ValueError(f"qas.{number}.answers: none of them is among the passage's entities")
        return self


def _examples(task: Task, name: str, row: RecordRow) -> Iterator[Example]:
    """Cut the query at its first placeholder; white space before the cut goes to the candidate."""
    template = (task.candidates or Candidates()).template
    entities = row.passage.names
    for query in row.qas:
        before, _, after = query.query.partition(PLACEHOLDER)
        start = before.rstrip()
        space = before[len(start) :]
        answers = {answer.text.lower() for answer in query.answers}
        yield Example(
            id=f"{name}/{query.idx}",
            context=fill(task.template, {"passage": row.passage.text, "before": start}),
            candidates=tuple(
                fill(template, {"space": space, "entity": entity, "after": after.replace(PLACEHOLDER, entity)})
                for entity in entities
            ),
            labels=tuple(entities),
            gold=tuple(index for index, entity in enumerate(entities) if entity.lower() in answers),
        )


def _from_hub(_: Task, name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
    """The hub has one row for each query, with entities as texts."""
    passages: dict[int, dict[str, Any]] = {}
    origins: dict[int, str] = {}
    problems: dict[int, str] = {}
    for number, row in rows:
        at = row["idx"]["passage"]
        origin = f"{name}:{number}"
        if at not in passages:
            origins[at] = origin
            spans, absent = _spans(row)
            if absent:
                problems[at] = f"entities {absent} are not in the passage"
            passages[at] = {"idx": at, "passage": {"text": row["passage"], "entities": spans}, "qas": []}
        if passages[at]["passage"]["text"] != row["passage"]:
            problems[at] = f"passage {at} has another text at {origin}"
        answers = [{"text": text} for text in row["answers"]]
        passages[at]["qas"].append({"idx": row["idx"]["query"], "query": row["query"], "answers": answers})
    return (RawRow(origins[at], value, problems.get(at, "")) for at, value in passages.items())


def _spans(row: Flat) -> tuple[list[dict[str, int]], list[str]]:
    """Entity spans with inclusive ends, and the entities that are not in the passage.

    On the hub, `entities` is unordered (it was a set), so these spans are sorted by place. `entity_spans`, if present,
    has offsets with exclusive ends.
    """
    spans = row.get("entity_spans")
    if spans:
        ends = zip(spans["start"], spans["end"], strict=True)
        return [{"start": start, "end": end - 1} for start, end in ends], []
    found = {text: row["passage"].find(text) for text in row["entities"]}
    inside = sorted((start, start + len(text) - 1) for text, start in found.items() if start >= 0)
    return [{"start": start, "end": end} for start, end in inside], [text for text, at in found.items() if at < 0]


FORMAT = RowFormat(
    reader=lambda _: RecordRow.model_validate,
    examples=_examples,
    hub_columns=lambda _: ("passage", "query", "entities", "answers", "idx"),
    from_hub=_from_hub,
    context_fields=frozenset({"passage", "before"}),
    candidate_fields=frozenset({"space", "entity", "after"}),
    makes_candidates=True,
)
