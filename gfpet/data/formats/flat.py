"""Flat rows: the task file names the columns, and each row gives one example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from gfpet.data.examples import Example
from gfpet.data.formats._format import Flat, RowFormat
from gfpet.data.formats._types import AnyText, Index, Number, StrictRow, Text, as_text, within
from gfpet.data.rows import RawRow, shown
from gfpet.data.task import Candidates, RowField, Task
from gfpet.data.templates import fill, placeholders

IDX = "idx"
"""Column with the row's number. In a user's data files, rows are numbered from 1."""
CANDIDATE = "candidate"
"""Placeholder of the candidate in the candidates' template."""

_literal: Any = Literal
_PLAIN: Mapping[str, Any] = {
    "text": Text, "any_text": AnyText, "index": Index, "integer": int, "number": Number, "boolean": bool,
}  # fmt: skip


def _scalar(value: object) -> object:
    if value is None or not isinstance(as_text(value), str):
        raise ValueError("Input should be a text or a number")
    return value


_Scalar = Annotated[Any, AfterValidator(_scalar)]


def columns(task: Task) -> list[str]:
    """Every required column of a row: first the declared ones, then those that other keys of the task file name."""
    candidates = task.candidates
    named = [*task.fields, *placeholders(task.template)]
    if candidates:
        named += [name for name in placeholders(candidates.template) if name != CANDIDATE]
        named += [*(candidates.fields or ()), *((candidates.column,) if candidates.column else ())]
    named += [task.label, *((task.group,) if task.group else ())]
    return list(dict.fromkeys(named))


def _type(task: Task, column: str) -> Any:
    candidates = task.candidates or Candidates()
    field = task.fields.get(column)
    if column == candidates.column:
        return Annotated[list[Text], Field(min_length=2)]
    if field is None:
        if column == task.label:
            return _labels(task) if task.labels else _Scalar
        return _Scalar if column == task.group else Text
    if field.type == "label":
        return _labels(task)
    if field.type == "choice":
        return Annotated[int, Field(ge=0, le=len(candidates.fields or ()) - 1)]
    return _literal[tuple(field.words)] if field.words else _PLAIN[field.type]


def _labels(task: Task) -> Any:
    return Annotated[_literal[tuple(task.labels or ())], BeforeValidator(as_text)]


def _reader(task: Task) -> Callable[[object], dict[str, Any]]:
    names = [IDX, *(name for name in columns(task) if name != IDX)]
    # Columns are aliases, because not every column name is a valid name of a model field.
    types: dict[str, Any] = {f"f{at}": (_type(task, name), Field(alias=name)) for at, name in enumerate(names) if at}
    model = create_model("Row", __base__=StrictRow, f0=(Index, Field(alias=IDX)), **types)

    def read(value: object) -> dict[str, Any]:
        row = model.model_validate(value)
        values = {name: getattr(row, f"f{at}") for at, name in enumerate(names)}
        for span in task.spans:
            within(f"{span.start}, {span.end}", values[span.start], values[span.end], len(values[span.within]))
        if task.candidates:
            _right(task, values)
        return values

    return read


def _given(task: Task, row: Flat) -> Sequence[str]:
    candidates = task.candidates or Candidates()
    if candidates.column:
        listed: Sequence[str] = row[candidates.column]
        return listed
    return tuple(row[name] for name in candidates.fields or ())


def _right(task: Task, row: Flat) -> int:
    """Index of the right candidate. The label is its text, or its number from 0."""
    given, label = list(_given(task, row)), row[task.label]
    for index, text in enumerate(given):
        if text in given[:index]:
            raise ValueError(f"candidates: {shown(text)} is there twice")
    if isinstance(label, str) and label in given:
        return given.index(label)
    number = str(as_text(label))
    if number.isdecimal() and len(number) < 10 and int(number) < len(given):
        return int(number)
    raise ValueError(
        f"{task.label}: {shown(label)} is neither one of the {len(given)} candidates nor a number from 0 to "
        f"{len(given) - 1}"
    )


def _prepared(value: object, field: RowField | None) -> str:
    """A value as text for the template, with the edits of its field."""
    text = str(as_text(value))
    if field is None:
        return text
    if field.words is not None:
        return field.words[text]
    if field.without_end is not None:
        text = text.rstrip().removesuffix(field.without_end)
    return text[:1].lower() + text[1:] if field.first_letter else text


def _examples(task: Task, name: str, row: Flat) -> Iterator[Example]:
    shown_in = [*placeholders(task.template), *(placeholders(task.candidates.template) if task.candidates else ())]
    texts = {column: _prepared(row[column], task.fields.get(column)) for column in shown_in if column in row}
    group = f"{name.rpartition('/')[0]}/{as_text(row[task.group])}" if task.group else ""
    context = fill(task.template, texts)
    if task.labels:
        label = list(task.labels).index(str(as_text(row[task.label])))
        yield Example(name, context, tuple(task.labels.values()), tuple(task.labels), (label,), group)
        return
    candidates = task.candidates or Candidates()
    given = _given(task, row)
    fields = candidates.fields or (candidates.column or "",) * len(given)
    ready = [_prepared(text, task.fields.get(field)) for text, field in zip(given, fields, strict=True)]
    filled = tuple(fill(candidates.template, {**texts, CANDIDATE: text}) for text in ready)
    yield Example(name, context, filled, tuple(given), (_right(task, row),), group)


def _from_hub(task: Task, name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
    """Hub labels are numbers; -1 (unlabelled) and unknown ones become None, which the check reports."""
    field = task.fields.get(task.label)
    classes: Sequence[object] = tuple(task.labels or range(len((task.candidates or Candidates()).fields or ())))
    if field and field.type == "boolean":
        classes = (False, True)
    for number, row in rows:
        label = row[task.label]
        known = isinstance(label, int) and 0 <= label < len(classes)
        yield RawRow(f"{name}:{number}", {**row, task.label: classes[label] if known else None})


FORMAT = RowFormat(
    reader=_reader,
    examples=_examples,
    hub_columns=columns,
    from_hub=_from_hub,
    groups=None,
    columns=True,
)
