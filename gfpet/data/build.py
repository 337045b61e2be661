"""Rows to examples: the prompts filled in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import assert_never

from gfpet.data.benchmark import task_info
from gfpet.data.examples import Example
from gfpet.data.prompts import Prompt, prompts
from gfpet.data.rows import (
    PLACEHOLDER,
    BoolqRow,
    CbRow,
    CopaRow,
    MultircRow,
    RecordRow,
    Row,
    RteRow,
    WicRow,
    WscRow,
)
from gfpet.data.spans import other_spans


def build_examples(
    task: str, split: str, rows: Iterable[Row], table: Mapping[str, Prompt] | None = None
) -> list[Example]:
    """Every example of whole rows, in their order; MultiRC has one for each answer option, ReCoRD one for each query.

    Args:
        split: part of the examples' ids: `<task>/<split>/<idx>`.
        table: prompts of all tasks; None takes the shipped ones.

    Raises:
        DataError: there is no such task.
    """
    task_info(task)
    prompt = (table or prompts())[task]
    return [example for row in rows for example in _examples(f"{task}/{split}/{row.idx}", row, prompt)]


def _examples(name: str, row: Row, prompt: Prompt) -> Iterator[Example]:
    match row:
        case BoolqRow():
            fields = {"passage": row.passage, "question": row.question.rstrip().removesuffix("?")}
            yield _verbalized(name, prompt, fields, _truth(row.label))
        case CbRow() | RteRow():
            fields = {"premise": row.premise, "hypothesis": row.hypothesis.rstrip().removesuffix(".")}
            yield _verbalized(name, prompt, fields, row.label)
        case WicRow():
            fields = {"sentence1": row.sentence1, "sentence2": row.sentence2, "word": row.word}
            yield _verbalized(name, prompt, fields, _truth(row.label))
        case MultircRow():
            yield from _multirc(name, row, prompt)
        case CopaRow():
            yield _copa(name, row, prompt)
        case RecordRow():
            yield from _record(name, row, prompt)
        case WscRow():
            yield _wsc(name, row, prompt)
        case _:
            assert_never(row)


def _verbalized(name: str, prompt: Prompt, fields: Mapping[str, str], label: str, group: str = "") -> Example:
    words = prompt.verbalizers or {}
    return Example(
        id=name,
        context=prompt.context.format(**fields),
        candidates=tuple(words.values()),
        labels=tuple(words),
        gold=(list(words).index(label),),
        group=group,
    )


def _multirc(name: str, row: MultircRow, prompt: Prompt) -> Iterator[Example]:
    for question in row.passage.questions:
        group = f"{name}/{question.idx}"
        for answer in question.answers:
            fields = {"passage": row.passage.text, "question": question.question, "answer": answer.text}
            yield _verbalized(f"{group}/{answer.idx}", prompt, fields, _truth(answer.label == 1), group)


def _copa(name: str, row: CopaRow, prompt: Prompt) -> Example:
    connective = (prompt.connectives or {})[row.question]
    choices = (row.choice1, row.choice2)
    return Example(
        id=name,
        context=prompt.context.format(premise=row.premise.rstrip().removesuffix("."), connective=connective),
        candidates=tuple(_filled(prompt, choice=choice[0].lower() + choice[1:]) for choice in choices),
        labels=choices,
        gold=(row.label,),
    )


def _record(name: str, row: RecordRow, prompt: Prompt) -> Iterator[Example]:
    entities = row.passage.names
    for query in row.qas:
        before, _, after = query.query.partition(PLACEHOLDER)
        start = before.rstrip()
        answers = {answer.text.lower() for answer in query.answers}
        yield Example(
            id=f"{name}/{query.idx}",
            context=prompt.context.format(passage=row.passage.text, before=start),
            candidates=tuple(
                _filled(prompt, space=before[len(start) :], entity=entity, after=after.replace(PLACEHOLDER, entity))
                for entity in entities
            ),
            labels=tuple(entities),
            gold=tuple(index for index, entity in enumerate(entities) if entity.lower() in answers),
        )


def _wsc(name: str, row: WscRow, prompt: Prompt) -> Example:
    """The span in question is candidate 0; where it is not what is meant, every other one counts as right."""
    target = row.target
    others = other_spans(row.text, target.span1_text, target.span1_index, target.span2_text, target.span2_index)
    spans = (target.span1_text, *others)
    return Example(
        id=name,
        context=prompt.context.format(text=row.text, pronoun=target.span2_text),
        candidates=tuple(_filled(prompt, span=span) for span in spans),
        labels=spans,
        gold=(0,) if row.label else tuple(range(1, len(spans))),
    )


def _filled(prompt: Prompt, **fields: str) -> str:
    return (prompt.candidate or "").format(**fields)


def _truth(label: bool) -> str:
    return "true" if label else "false"
