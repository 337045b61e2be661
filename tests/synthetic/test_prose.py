"""The pretraining text: its content, and that no task leaks into it."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from gfpet.synthetic import TASKS, corpus, facts_of_seed, generate
from gfpet.synthetic.lexicon import HOMONYMS, PORTRAITS, QUESTIONS, STATEMENTS, UNKNOWN, VALUES
from gfpet.synthetic.prose import CHATTER, OPENERS
from tests.synthetic.examples import examples_of

DOCUMENTS = 20_000


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Documents; after a tenth of them all entities are in use."""
    return list(islice(corpus(0, hold=0, ramp=DOCUMENTS // 10), DOCUMENTS))


@pytest.fixture(scope="module")
def sentences(documents: list[str]) -> list[str]:
    """Sentences; a claim and the verdict on it stay together."""
    found = []
    for document in documents:
        text = document.split(" ", 1)[1]
        found += re.split(r"(?<=[.]) (?!It never)", text)
    return found


def pattern(form: str) -> str:
    return re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(form))


def plain_forms() -> re.Pattern[str]:
    """A pattern for every statement of facts and all small talk, and nothing else."""
    forms = [form for forms in (*STATEMENTS.values(), *UNKNOWN.values()) for form in forms]
    part = "|".join(pattern(form) for form in PORTRAITS.values())
    portrait = rf"\w+ ({part}), ({part}) and ({part})\."
    return re.compile("|".join([portrait, *(pattern(form) for form in (*forms, *CHATTER))]))


@pytest.fixture(scope="module")
def told(sentences: list[str]) -> dict[str, str]:
    """Name of an evaluation entity → all distinct sentences with that name."""
    found: dict[str, set[str]] = {entity.name: set() for entity in facts_of_seed().side(evaluation=True)}
    for sentence in sentences:
        for name in found.keys() & set(re.findall(r"\w+", sentence)):
            found[name].add(sentence)
    return {name: "\n".join(sorted(listed)) for name, listed in found.items()}


def test_the_same_seed_gives_the_same_text() -> None:
    first, again, other = (list(islice(corpus(seed), 50)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_benchmark_grows() -> None:
    """The first documents use few entities, the last ones all."""
    documents = list(islice(corpus(0, start=10, hold=300, ramp=300), 2500))
    named = [
        {word for text in part for word in re.findall(r"\w+", text)} & set(facts_of_seed().entities)
        for part in (documents[:300], documents[1500:])
    ]
    assert named[0] <= set([*facts_of_seed().entities][:10])
    assert len(named[1]) > 0.95 * len(facts_of_seed().entities)


def test_no_document_starts_with_a_name(documents: list[str]) -> None:
    assert {document.split(" ")[0] for document in documents} == set(OPENERS)


def test_every_fact_of_an_evaluation_entity_is_stated(told: dict[str, str]) -> None:
    for entity in facts_of_seed().side(evaluation=True):
        for attribute, value in entity.attributes.items():
            forms = [form.format(name=entity.name, value=value).rstrip(".") for form in STATEMENTS[attribute]]
            portrait = rf"(?m)^{entity.name} .*{PORTRAITS[attribute].format(value=value)}"
            assert any(form in told[entity.name] for form in forms) or re.search(portrait, told[entity.name])


def test_what_is_told_of_evaluation_entity_is_true(told: dict[str, str]) -> None:
    """Every value in a sentence about an evaluation entity is its own; small talk has no value."""
    facts = facts_of_seed()
    kinds = {value: attribute for attribute, values in VALUES.items() for value in values}
    for name, text in told.items():
        for value in set(re.findall(r"\w+", text)) & kinds.keys():
            assert facts.verdict(name, kinds[value], value), (name, value)


def test_evaluation_entity_come_in_statements_and_small_talk_only(told: dict[str, str]) -> None:
    plain = plain_forms()
    for text in told.values():
        for sentence in text.split("\n"):
            assert plain.fullmatch(sentence), sentence


def test_no_text_has_task_form(documents: list[str]) -> None:
    for document in documents:
        assert "\n" not in document
        assert "Question:" not in document
        assert "Answer:" not in document
        assert "@" not in document


def test_yes_and_no_never_follow_a_claim(sentences: list[str]) -> None:
    """The verbalizers occur only in small talk, which has no values."""
    values = {value for listed in VALUES.values() for value in listed}
    spoken = [sentence for sentence in sentences if re.search(r"\b(Yes|No|Maybe)\b", sentence)]
    assert spoken
    for sentence in spoken:
        assert not values & set(re.findall(r"\w+", sentence)), sentence


@pytest.mark.parametrize("task", sorted(TASKS))
def test_no_evaluation_example_is_in_the_text(task: str, told: dict[str, str]) -> None:
    """The text has neither the context of an example, nor its last line with any of its candidates."""
    _, rows = generate(task, 0, 0, 1000)
    for example in examples_of(task, "val", rows):
        line = example.context.split("\n")[-1]
        for name in told.keys() & set(re.findall(r"\w+", example.context)):
            assert example.context not in told[name]
            assert not any(line + candidate in told[name] for candidate in example.candidates)


def test_no_question_on_an_evaluation_entity_is_in_the_text(told: dict[str, str]) -> None:
    asked = list(QUESTIONS.values())
    for name, text in told.items():
        assert "?" not in text
        assert not any(form.format(name=name, value="").rstrip("? ") in text for form in asked)


def test_homonyms_are_named(documents: list[str]) -> None:
    text = " ".join(documents)
    assert all(f" {word} " in text for word in HOMONYMS)
