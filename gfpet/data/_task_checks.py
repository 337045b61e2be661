"""Consistency checks of a task file, beyond the types of its keys. One line for each problem."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel

from gfpet.data.formats import FORMATS
from gfpet.data.formats.flat import CANDIDATE, IDX, columns
from gfpet.data.metric_registry import METRICS
from gfpet.data.rows import shown
from gfpet.data.task import Candidates, Files, Hub, Release, RowField, Span, Task
from gfpet.data.templates import placeholders
from gfpet.errors import nearest

_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Task, ("release",): Release, ("release", "hub"): Hub, ("data",): Files, ("fields", "*"): RowField,
    ("spans", "*"): Span, ("candidates",): Candidates,
}  # fmt: skip


def key_problem(detail: Any) -> str:
    """One line for a problem that pydantic found: the key, what was found and what is allowed."""
    location = [part for part in detail["loc"] if part != "[key]"]
    key = ".".join(str(part) for part in location) or "the file"
    kind, found = detail["type"], shown(detail["input"])
    if kind == "missing":
        return f"{key}: missing"
    if kind == "extra_forbidden":
        parents = [str(part) for part in location[:-1]]
        place = (parents[0], "*") if parents[:1] in (["fields"], ["spans"]) else tuple(parents)
        allowed = list(_MODELS.get(place, Task).model_fields)
        return f"{key}: unknown key{_guess(str(location[-1]), allowed)}; allowed here: {', '.join(allowed)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        return f"{key}: found {found}; allowed: {', '.join(allowed)}{_guess(detail['input'], allowed)}"
    if key == "name" and kind == "string_pattern_mismatch":
        return f"name: found {found}; it must be of letters, digits and _, and begin with a letter"
    return f"{key}: found {found}; {detail['msg']}"


def problems(task: Task) -> Iterator[str]:
    """All problems of a file whose keys have the right types."""
    if (task.release is None) == (task.data is None):
        yield "data: give either 'data' (files of your own) or 'release' (a task in the sources of SuperGLUE)"
    if task.data and task.data.eval and task.data.eval_part is not None:
        yield "data.eval_part: it says which part of 'train' is 'eval', but 'eval' is given; leave one out"
    if task.rows not in FORMATS:
        yield f"rows: {_unknown(task.rows, FORMATS)}"
        return
    for name, metric in task.metrics.items():
        if metric not in METRICS:
            yield f"metrics.{name}: {_unknown(metric, METRICS)}"
        elif METRICS[metric].classes and task.ranking:
            yield f"metrics.{name}: '{metric}' needs the same labels in every example; 'candidates' has other ones"
    if "score" in task.metrics:
        yield "metrics.score: 'score' is the name of the mean of all metrics; take another name"
    yield from _labels(task)
    broken = list(_templates(task))
    yield from broken
    yield from _rows(task, readable=not broken)


def _labels(task: Task) -> Iterator[str]:
    if (task.labels is None) == (task.candidates is None):
        yield "labels: give either 'labels' (label to verbalizer) or 'candidates' (each row has its own)"
    if task.labels is None:
        return
    if len(task.labels) < 2:
        yield f"labels: found {len(task.labels)}; at least two are needed to choose from"
    by_word: dict[str, str] = {}
    for label, word in task.labels.items():
        if not word.strip():
            yield f"labels.{label}: its verbalizer is empty"
        elif word in by_word:
            yield f"labels.{label}: '{by_word[word]}' has the same verbalizer {shown(word)}"
        by_word.setdefault(word, label)


def _templates(task: Task) -> Iterator[str]:
    form = FORMATS[task.rows]
    texts = [("template", task.template, form.context_fields)]
    if task.candidates:
        texts.append(("candidates.template", task.candidates.template, form.candidate_fields))
    for key, text, allowed in texts:
        try:
            named = placeholders(text)
        except ValueError as error:
            yield f"{key}: {error}"
            continue
        yield from (
            f"{key}: {_unknown(name, allowed)}" for name in named if allowed is not None and name not in allowed
        )
        if not named:
            yield f"{key}: found {shown(text)}; it names no {{field}}, so that every row gives the same text"
        if form.columns:
            yield from (f"{key}: {problem}" for problem in _of_columns(task, named))
        if form.columns and key != "template" and CANDIDATE not in named:
            yield f"{key}: found {shown(text)}; it must name {{{CANDIDATE}}}"
    if task.template.endswith((" ", "\t")):
        yield "template: it ends in white space; move that to the front of each verbalizer or candidate"


def _of_columns(task: Task, named: Collection[str]) -> Iterator[str]:
    """Problems with columns that a template may not name."""
    if IDX in named:
        yield f"{{{IDX}}} is the number of the row; it may not be part of the text"
    if task.label in named:
        yield f"{{{task.label}}} is the column of the right answer; it may not be part of the text"
    if task.candidates and task.candidates.column in named:
        yield f"{{{task.candidates.column}}} is a list of candidates; {{{CANDIDATE}}} stands for each of them"


def _rows(task: Task, readable: bool) -> Iterator[str]:
    form = FORMATS[task.rows]
    if form.groups is not None and task.group is not None and task.group not in form.groups:
        yield f"group: {_unknown(task.group, form.groups)}"
    if form.labels is not None and task.labels is not None and set(task.labels) != form.labels:
        wanted = ", ".join(sorted(form.labels))
        yield f"labels: found {', '.join(task.labels)}; rows of format {task.rows} have {wanted}"
    if (form.makes_candidates and task.labels) or (form.labels and task.candidates):
        needed, other = ("candidates", "labels") if form.makes_candidates else ("labels", "candidates")
        yield f"{other}: rows of format {task.rows} need '{needed}' instead"
    if form.columns:
        yield from _columns(task, readable)
        return
    for key in ("fields", "spans", "label"):
        if key in task.model_fields_set:
            yield f"{key}: rows of format {task.rows} have fields of their own; leave it out"
    if task.candidates and (task.candidates.fields or task.candidates.column):
        yield f"candidates: rows of format {task.rows} make their own candidates; leave out 'fields' and 'column'"


def _columns(task: Task, readable: bool) -> Iterator[str]:
    candidates = task.candidates
    if candidates and (candidates.fields is None) == (candidates.column is None):
        yield "candidates: give either 'fields' (columns with one candidate each) or 'column' (a list of candidates)"
    if candidates and candidates.fields is not None and len(set(candidates.fields)) < max(2, len(candidates.fields)):
        yield f"candidates.fields: found {list(candidates.fields)}; name at least two columns, each once"
    if task.data and IDX in {*task.fields, task.label, task.group}:
        yield f"fields: '{IDX}' is the number of the line in data files; call the column otherwise"
    for name, field in task.fields.items():
        yield from _field(task, name, field)
    for span in task.spans:
        wanted = {span.start: "integer", span.end: "integer", span.within: "text"}
        for name, kind in wanted.items():
            if name not in task.fields or task.fields[name].type != kind:
                yield f"spans: '{name}' must be declared in 'fields' with type {kind}"
    if readable and CANDIDATE in columns(task) and candidates:
        yield f"fields: '{CANDIDATE}' stands for each candidate; call the column otherwise"


def _field(task: Task, name: str, field: RowField) -> Iterator[str]:
    edits = [key for key in ("without_end", "first_letter", "words") if getattr(field, key) is not None]
    if edits and field.type != "text":
        yield f"fields.{name}: {', '.join(edits)} need type text, found {field.type}"
    if field.words is not None and len(edits) > 1:
        yield f"fields.{name}.words: it says the whole text; leave out {edits[0]}"
    if field.words is not None and not field.words:
        yield f"fields.{name}.words: empty; it must name every allowed value"
    listed = task.candidates.column if task.candidates else None
    if name == listed and (field.type != "text" or field.words is not None):
        yield f"fields.{name}: a column of candidates is a list of texts"
    if field.type == "label" and (name != task.label or not task.labels):
        yield f"fields.{name}: type label is for the column of 'label' ('{task.label}') of a task with 'labels'"
    if field.type == "choice" and (name != task.label or not (task.candidates and task.candidates.fields)):
        yield f"fields.{name}: type choice is for the column of 'label' ('{task.label}') with 'candidates.fields'"
    if name == task.label and task.labels and field.type not in ("label", "boolean"):
        yield f"fields.{name}: found {field.type}; the column of the label has type label or boolean"
    if name == task.label and task.labels and field.type == "boolean" and set(task.labels) != {"true", "false"}:
        yield f"fields.{name}: a boolean has the labels true and false, found {', '.join(task.labels)}"


def _unknown(name: str, allowed: Collection[str]) -> str:
    return f"found '{name}'; allowed: {', '.join(sorted(allowed)) or 'none'}{_guess(name, allowed)}"


def _guess(name: Any, allowed: Collection[str]) -> str:
    close = nearest(name, allowed) if isinstance(name, str) else None
    return f"; did you mean '{close}'?" if close else ""
