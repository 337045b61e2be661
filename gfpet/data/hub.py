"""From the flat rows of `aps/super_glue` on the Hugging Face hub back to the form of the official release.

There labels are ints (-1: unlabelled), MultiRC has one row for each answer option, ReCoRD one for each query with
entities as texts, and WSC has its target's fields at the top level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from gfpet.data.checks import RawRow
from gfpet.errors import DataError

Flat = Mapping[str, Any]

# Order of the classes in the hub's features.
_BOOLEAN = (False, True)
_LABELS: Mapping[str, Sequence[object]] = {
    "boolq": _BOOLEAN,
    "cb": ("entailment", "contradiction", "neutral"),
    "copa": (0, 1),
    "multirc": (0, 1),
    "rte": ("entailment", "not_entailment"),
    "wic": _BOOLEAN,
    "wsc": _BOOLEAN,
}
_COLUMNS: Mapping[str, Sequence[str]] = {
    "boolq": ("question", "passage", "idx", "label"),
    "cb": ("premise", "hypothesis", "idx", "label"),
    "copa": ("premise", "choice1", "choice2", "question", "idx", "label"),
    "multirc": ("paragraph", "question", "answer", "idx", "label"),
    "record": ("passage", "query", "entities", "answers", "idx"),
    "rte": ("premise", "hypothesis", "idx", "label"),
    "wic": ("word", "sentence1", "sentence2", "start1", "start2", "end1", "end2", "idx", "label"),
    "wsc": ("text", "span1_index", "span2_index", "span1_text", "span2_text", "idx", "label"),
}


def from_hub(task: str, name: str, columns: Sequence[str], rows: Iterable[Flat]) -> Iterator[RawRow]:
    """Rows of one split in the form of the release; a row's origin is `<name>:<number of its first flat row>`.

    Raises:
        DataError: columns are missing.
    """
    absent = [column for column in _COLUMNS[task] if column not in columns]
    if absent:
        raise DataError(
            f"{name}: columns {absent} are missing; found {list(columns)}. "
            "The source 'hub' needs a data set in the form of aps/super_glue."
        )
    numbered = enumerate(rows, start=1)
    gather = _GATHERED.get(task)
    if gather:
        return gather(name, numbered)
    return (RawRow(f"{name}:{number}", _plain(task, row)) for number, row in numbered)


def _label(task: str, row: Flat) -> object:
    """The release's label; None (which the row check reports) for -1 and anything unknown."""
    label, classes = row["label"], _LABELS[task]
    known = isinstance(label, int) and 0 <= label < len(classes)
    return classes[label] if known else None


def _plain(task: str, row: Flat) -> dict[str, object]:
    value: dict[str, object] = {**row, "label": _label(task, row)}
    if task == "wsc":
        value["target"] = {key: value.pop(key) for key in ("span1_index", "span1_text", "span2_index", "span2_text")}
    return value


def _multirc(name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
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
        answer = {"idx": index["answer"], "text": row["answer"], "label": _label("multirc", row)}
        questions[asked]["answers"].append(answer)
    return (RawRow(origins[at], value, problems.get(at, "")) for at, value in passages.items())


def _record(name: str, rows: Iterable[tuple[int, Flat]]) -> Iterator[RawRow]:
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
    """Entity spans in the order of the passage with inclusive ends, and the entities that are not in it.

    `entities` has no order on the hub (it was a set); `entity_spans`, where there, has the offsets with exclusive ends.
    """
    spans = row.get("entity_spans")
    if spans:
        ends = zip(spans["start"], spans["end"], strict=True)
        return [{"start": start, "end": end - 1} for start, end in ends], []
    found = {text: row["passage"].find(text) for text in row["entities"]}
    inside = sorted((start, start + len(text) - 1) for text, start in found.items() if start >= 0)
    return [{"start": start, "end": end} for start, end in inside], [text for text, at in found.items() if at < 0]


_GATHERED: Mapping[str, Callable[[str, Iterable[tuple[int, Flat]]], Iterator[RawRow]]] = {
    "multirc": _multirc,
    "record": _record,
}
