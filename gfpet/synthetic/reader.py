"""Answers of a reader who knows every fact, and scores of one who knows none."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from gfpet.errors import DataError, unknown
from gfpet.synthetic.facts import Facts, facts_of_seed
from gfpet.synthetic.lexicon import VALUES

Row = dict[str, Any]

_ATTRIBUTE = {value: attribute for attribute, values in VALUES.items() for value in values}


def gold(task: str, row: Row) -> Any:
    """The correct answer of a row: its label; for MultiRC the labels of all answers, for ReCoRD the answers' texts."""
    if task == "multirc":
        return [answer["label"] for question in row["passage"]["questions"] for answer in question["answers"]]
    if task == "record":
        return sorted({answer["text"] for query in row["qas"] for answer in query["answers"]})
    return row["label"]


def perfect_reader(task: str, row: Row, facts: Facts | None = None) -> Any:
    """The answer to a row in the form of `gold`, computed from the row's text and the facts.

    Raises:
        DataError: an unknown task.
    """
    facts = facts or facts_of_seed()
    readers = {
        "boolq": _boolq, "cb": _cb, "copa": _copa, "multirc": _multirc,
        "record": _record, "rte": _rte, "wic": _wic, "wsc": _wsc,
    }  # fmt: skip
    if task not in readers:
        raise DataError(unknown("task of the world", task, readers))
    return readers[task](facts, row)


def baselines(task: str, rows: list[Row]) -> dict[str, float]:
    """Expected accuracy, in percent, of guessing (`chance`) and of the most common answer (`majority`).

    MultiRC is counted by answer; ReCoRD by query, whose candidates are the entities of its passage.
    """
    if task == "record":
        shares = [1 / len(row["passage"]["entities"]) for row in rows]
        return {"chance": 100 * sum(shares) / len(shares), "majority": 100 * max(_slots(rows)) / len(rows)}
    answers = [gold(task, row) for row in rows]
    flat = [label for labels in answers for label in labels] if task == "multirc" else answers
    counts = Counter(flat)
    return {"chance": 100 / len(counts), "majority": 100 * max(counts.values()) / len(flat)}


def _slots(rows: list[Row]) -> list[int]:
    """How often the answer is the first, second, ... entity of the passage."""
    order = Counter(
        [entity["start"] for entity in row["passage"]["entities"]].index(row["qas"][0]["answers"][0]["start"])
        for row in rows
    )
    return list(order.values())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _names(facts: Facts, text: str) -> list[str]:
    return [word for word in _words(text) if word in facts.entities]


def _value(text: str) -> tuple[str, str]:
    """Attribute and value of the first attribute value in a text."""
    return next((_ATTRIBUTE[word], word) for word in _words(text) if word in _ATTRIBUTE)


def _holds(facts: Facts, name: str, text: str) -> bool | None:
    return facts.verdict(name, *_value(text))


def _boolq(facts: Facts, row: Row) -> bool:
    return bool(_holds(facts, _names(facts, row["question"])[0], row["question"]))


def _cb(facts: Facts, row: Row) -> str:
    verdict = _holds(facts, _names(facts, row["hypothesis"])[0], row["hypothesis"])
    return {True: "entailment", False: "contradiction", None: "neutral"}[verdict]


def _rte(facts: Facts, row: Row) -> str:
    verdict = _holds(facts, _names(facts, row["hypothesis"])[0], row["hypothesis"])
    return "entailment" if verdict else "not_entailment"


def _copa(facts: Facts, row: Row) -> int:
    name = _names(facts, row["premise"])[0]
    choices = (row["choice1"], row["choice2"])
    if row["question"] == "cause":
        return [_holds(facts, name, choice) for choice in choices].index("glad" in row["premise"])
    pleased = _holds(facts, name, row["premise"])
    return ["glad" in choice for choice in choices].index(bool(pleased))


def _multirc(facts: Facts, row: Row) -> list[int]:
    questions = row["passage"]["questions"]
    return [
        int(bool(_holds(facts, _names(facts, answer["text"])[0], question["question"])))
        for question in questions
        for answer in question["answers"]
    ]


def _record(facts: Facts, row: Row) -> list[str]:
    text = row["passage"]["text"]
    entities = {text[entity["start"] : entity["end"] + 1] for entity in row["passage"]["entities"]}
    return sorted(name for name in entities if _holds(facts, name, row["qas"][0]["query"]))


def _wic(facts: Facts, row: Row) -> bool:
    first, second = (_names(facts, row[f"sentence{number}"])[0] for number in (1, 2))
    return facts.entities[first].kind == facts.entities[second].kind


def _wsc(facts: Facts, row: Row) -> bool:
    return bool(_holds(facts, row["target"]["span1_text"], row["text"]))
