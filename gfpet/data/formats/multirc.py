"""MultiRC: a passage with questions, each with answer options; one example for each option.

Empty answer options are allowed, because the official training split has three.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

from pydantic import Field, model_validator

from gfpet.data.examples import Example
from gfpet.data.formats._format import Flat, RowFormat
from gfpet.data.formats._types import AnyText, Bit, Index, StrictRow, Text, distinct
from gfpet.data.rows import RawRow
from gfpet.data.task import Task
from gfpet.data.templates import fill


class MultircAnswer(StrictRow):
    """One answer option."""

    idx: Index
    text: AnyText
    label: Bit


class MultircQuestion(StrictRow):
    """A question and its answer options; any number of them may be right."""

    idx: Index
    question: Text
    answers: Annotated[list[MultircAnswer], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> MultircQuestion:
        distinct("answers", [answer.idx for answer in self.answers])
        return self


class MultircPassage(StrictRow):
    """A text and its questions."""

    text: Text
    questions: Annotated[list[MultircQuestion], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> MultircPassage:
        distinct("questions", [question.idx for question in self.questions])
        return self


class MultircRow(StrictRow):
    """Multi-sentence reading comprehension."""

    idx: Index
    passage: MultircPassage


def _examples(task: Task, name: str, row: MultircRow) -> Iterator[Example]:
    labels = task.labels or {}
    for question in row.passage.questions:
        asked = f"{name}/{question.idx}"
        for answer in question.answers:
            texts = {"passage": row.passage.text, "question": question.question, "answer": answer.text}
            yield Example(
                id=f"{asked}/{answer.idx}",
                context=fill(task.template, texts),
                candidates=tuple(labels.values()),
                labels=tuple(labels),
                gold=(list(labels).index("true" if answer.label else "false"),),
                group=asked if task.group else "",
            )


def _from_hub(_: Task, name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
    """The hub has one row for each answer option."""
    passages: dict[int, dict[str, Any]] = {}
    questions: dict[tuple[int, int], dict[str, Any]] = {}
    origins: dict[int, str] = {}
    problems: dict[int, str] = {}
    for number, row in rows:
        index = row["idx"]
        at, asked = index["paragraph"], (index["paragraph"], index["question"])
        origin = f"{name}:{number}"
        if at not in passages:
            origins[at] = origin
            passages[at] = {"idx": at, "passage": {"text": row["paragraph"], "questions": []}}
        if asked not in questions:
            questions[asked] = {"idx": asked[1], "question": row["question"], "answers": []}
            passages[at]["passage"]["questions"].append(questions[asked])
        if (passages[at]["passage"]["text"], questions[asked]["question"]) != (row["paragraph"], row["question"]):
            problems[at] = f"paragraph {at} or its question {asked[1]} has another text at {origin}"
        label = row["label"] if row["label"] in (0, 1) else None
        questions[asked]["answers"].append({"idx": index["answer"], "text": row["answer"], "label": label})
    return (RawRow(origins[at], value, problems.get(at, "")) for at, value in passages.items())


FORMAT = RowFormat(
    reader=lambda _: MultircRow.model_validate,
    examples=_examples,
    hub_columns=lambda _: ("paragraph", "question", "answer", "idx", "label"),
    from_hub=_from_hub,
    context_fields=frozenset({"passage", "question", "answer"}),
    groups=frozenset({"question"}),
    labels=frozenset({"true", "false"}),
)
