"""The exact strings that a model reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfpet.data import Example, build_examples, check_rows, find_task, shipped_tasks
from gfpet.data.formats._spans import other_spans

from .conftest import Rows, raw, release_rows


def _built(task: str, rows: Rows) -> list[Example]:
    checked, broken = check_rows(find_task(task), raw(rows[task]))
    assert broken == []
    return build_examples(find_task(task), "val", checked)


def test_verbalizer_tasks(rows: Rows) -> None:
    yes_no = (" Yes", " No")
    booleans = ("true", "false")
    assert _built("boolq", rows) == [
        Example("boolq/val/0", "Tea is hot.\nQuestion: is tea hot?\nAnswer:", yes_no, booleans, (0,)),
        Example("boolq/val/1", "Tea\u2028is cold.\nQuestion: is tea hot?\nAnswer:", yes_no, booleans, (1,)),
    ]
    entailment = ("entailment", "contradiction", "neutral")
    answers = (" Yes", " No", " Maybe")
    assert _built("cb", rows) == [
        Example("cb/val/0", "He left.\nQuestion: he left?\nAnswer:", answers, entailment, (0,)),
        Example("cb/val/1", "He left.\nQuestion: she left?\nAnswer:", answers, entailment, (2,)),
    ]
    classes = ("entailment", "not_entailment")
    assert _built("rte", rows) == [
        Example("rte/val/0", "He left.\nQuestion: He left?\nAnswer:", yes_no, classes, (0,)),
        Example("rte/val/1", "He left.\nQuestion: She left?\nAnswer:", yes_no, classes, (1,)),
    ]
    context = "A place here.\nNo place.\nQuestion: Does place mean the same in both?\nAnswer:"
    assert _built("wic", rows) == [
        Example("wic/val/0", context, yes_no, booleans, (0,)),
        Example("wic/val/1", context, yes_no, booleans, (1,)),
    ]


def test_multirc_has_an_example_for_each_answer_option(rows: Rows) -> None:
    built = _built("multirc", rows)
    assert [(example.id, example.group, example.gold) for example in built] == [
        ("multirc/val/3/12/120", "multirc/val/3/12", (0,)),
        ("multirc/val/3/12/121", "multirc/val/3/12", (1,)),
        ("multirc/val/3/13/130", "multirc/val/3/13", (1,)),
        ("multirc/val/4/14/140", "multirc/val/4/14", (1,)),
        ("multirc/val/4/14/141", "multirc/val/4/14", (0,)),
        ("multirc/val/4/14/142", "multirc/val/4/14", (0,)),
    ]
    assert built[1].context == "A. B.\nQuestion: Which 12?\nIs it answer 1?\nAnswer:"
    assert (built[1].candidates, built[1].labels) == ((" Yes", " No"), ("true", "false"))


def test_copa_ranks_its_choices(rows: Rows) -> None:
    first, second = _built("copa", rows)
    assert (first.context, second.context) == ("My body cast a shadow because", "My body cast a shadow so")
    assert first.candidates == (" the sun rose.", " grass was cut.")
    assert first.labels == ("The sun rose.", "Grass was cut.")
    assert (first.gold, second.gold) == ((0,), (1,))


def test_record_gives_the_white_space_to_the_candidate(rows: Rows) -> None:
    inside, front = _built("record", rows)
    passage = "CNN says Bob Ray met Bob Ray and Ann."
    assert inside.id == "record/val/5/105"
    assert inside.context == f"{passage}\nLong live"
    assert inside.candidates == (" CNN.'", " Bob Ray.'", " Ann.'")
    assert (inside.labels, inside.gold) == (("CNN", "Bob Ray", "Ann"), (1,))
    assert front.context == f"{passage}\n"
    assert front.candidates == ("CNN met them", "Bob Ray met them", "Ann met them")
    assert front.gold == (0, 1)


def test_wsc_sets_other_spans_beside_the_one_in_question(rows: Rows) -> None:
    true, false = _built("wsc", rows)
    text = "Mark told Pete's aunt many lies, which Mr. Poe put in the book. He should have been more careful."
    assert true.context == f"{text}\nIn this text, He refers to"
    assert true.labels == ("Mark", "Pete", "Mr. Poe", "the book")
    assert true.candidates == (" Mark", " Pete", " Mr. Poe", " the book")
    assert (true.gold, false.gold) == ((0,), (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "span", "at", "pronoun", "where", "others"),
    [
        ("The drain is clogged with hair. It has to be removed.", "The drain", 0, "It", 6, ["It"]),
        ("The man saw Ann, Bob and New York City.", "The man", 0, "saw", 2, ["Ann", "Bob", "New York City"]),
        ("Ann saw Ann’s son and Ann.", "Ann", 0, "saw", 1, ["saw"]),
        (
            "A cat, a dog, a cow, a pig and a hen ran; it fell.",
            "A cat",
            0,
            "it",
            11,
            ["a dog", "a cow", "a pig", "a hen"],
        ),
        ("He took the ball from the “Red Team”.", "the ball", 2, "He", 0, ["Red Team"]),
    ],
)
def test_the_rule_for_other_spans(text: str, span: str, at: int, pronoun: str, where: int, others: list[str]) -> None:
    assert other_spans(text, span, at, pronoun, where) == others


_WORDS = st.sampled_from(
    ["Ann", "Bob's", "the", "The", "a", "dog", "Mr.", "ran.", "she", "It", "it,", "—", "New", "York"]
)


@given(words=st.lists(_WORDS, min_size=2, max_size=20), data=st.data())
def test_other_spans_are_few_distinct_and_apart_from_the_span(words: list[str], data: st.DataObject) -> None:
    at, where = (data.draw(st.integers(0, len(words) - 1)) for _ in range(2))
    found = other_spans(" ".join(words), words[at], at, words[where], where)
    assert 1 <= len(found) <= 4
    assert len({span.lower() for span in found}) == len(found)
    assert found == [words[where]] or words[at] not in found


def test_braces_in_a_text_are_left_alone(rows: Rows) -> None:
    rows["boolq"][0]["passage"] = "{question} {} {0}"
    assert _built("boolq", rows)[0].context.startswith("{question} {} {0}\nQuestion: is tea hot?")


def test_no_context_ends_in_a_space() -> None:
    rows = release_rows()
    for task in shipped_tasks():
        assert all(not example.context.endswith(" ") for example in _built(task, rows)), task
