"""The eight tasks of the synthetic benchmark, as rows in the release form of SuperGLUE.

Every example needs a fact that the corpus states and the row does not. Train rows name entities of the train split,
evaluation rows entities of the evaluation split. All tasks are balanced.

| task | question | classes | chance = majority, % |
|---|---|---|---|
| boolq | does the entity have the given home? | 2 | 50 |
| cb | does it have the given craft? neutral if its craft is open | 3 | 33.3 |
| copa | its own food makes it glad: which cause, or which effect, fits? | 2 | 50 |
| multirc | does this entity have the given colour? asked of four, of which two have it | 2 | 50 |
| record | which of the passage's three entities has the given value? | 3 | 33.3 |
| rte | does one of two entities eat the given food? | 2 | 50 |
| wic | does a word mean the same in both sentences? only if both entities are of the first kind | 2 | 50 |
| wsc | does the clause fit this one of two entities? | 2 | 50 |
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from gfpet.errors import DataError
from gfpet.synthetic.lexicon import (
    ASKED,
    EVENTS,
    HOMONYMS,
    KINDS,
    PLACES,
    QUESTIONS,
    STATEMENTS,
    VALUES,
    WHICH,
    Entity,
)
from gfpet.synthetic.prose import claim

Row = dict[str, Any]

SCENES = (
    "Today {name} went to the {place}.",
    "Here {name} saw the {place}.",
    "Now {name} left the {place}.",
    "Then {name} came near the {place}.",
)
PAIR_SCENES = (
    "Today {first} met {second} near the {place}.",
    "Here {first} and {second} saw the {place}.",
    "Then {first} left {second} near the {place}.",
)
EMPTY_SCENES = (
    "Here it was glad near the {place}.",
    "Today it was glad near the {place}.",
    "Then it was sad near the {place}.",
    "Now it was sad near the {place}.",
)
"""Passages of MultiRC; they name no entity. A passage with all four, as many right as wrong, distracts a model that
does not yet attend to the question alone: T5 learned nothing from it (docs/log.md)."""
WIC_SCENES = (
    "Here {name} has a {word}.",
    "Today {name} saw a {word}.",
    "Then {name} left a {word}.",
    "There {name} met a {word}.",
)


def scene(rng: random.Random, entity: Entity) -> str:
    """A passage that names one entity and states no fact of it."""
    return rng.choice(SCENES).format(name=entity.name, place=rng.choice(PLACES))


def unlike(
    rng: random.Random, entities: list[Entity], attribute: str, value: str, others: tuple[Entity, ...]
) -> Entity:
    """An entity other than `others` whose `attribute` is known and is not `value`."""
    names = {entity.name for entity in others}
    while True:
        entity = rng.choice(entities)
        if entity.name not in names and attribute != entity.open and entity.attributes[attribute] != value:
            return entity


DRAWS = 10_000
"""Draws of an entity before the search is given up."""


def entity_with(rng: random.Random, entities: list[Entity], attribute: str, truth: bool | None) -> Entity:
    """An entity for which "its `attribute` is the asked value" is true, false or open (None).

    Raises:
        DataError: there is none among the entities.
    """
    for _ in range(DRAWS):
        entity = rng.choice(entities)
        verdict = None if entity.open == attribute else entity.attributes[attribute] == ASKED[attribute]
        if verdict is truth:
            return entity
    raise DataError(
        f"none of {len(entities)} entities has {attribute} '{ASKED[attribute]}' as {truth}: ask of more entities."
    )


def two_with(rng: random.Random, entities: list[Entity], attribute: str, truth: bool) -> list[Entity]:
    """Two different entities as found by `entity_with`.

    Raises:
        DataError: there are no two among the entities.
    """
    first = entity_with(rng, entities, attribute, truth)
    for _ in range(DRAWS):
        second = entity_with(rng, entities, attribute, truth)
        if second != first:
            return [first, second]
    raise DataError(
        f"only one of {len(entities)} entities has {attribute} '{ASKED[attribute]}' as {truth}: ask of more entities."
    )


def boolq(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    truth = turn % 2 == 0
    entity = entity_with(rng, entities, "home", truth)
    question = QUESTIONS["home"].format(name=entity.name, value=ASKED["home"])
    return {"question": question, "passage": scene(rng, entity), "label": truth}


def cb(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    truth = (True, False, None)[turn % 3]
    entity = entity_with(rng, entities, "craft", truth)
    label = {True: "entailment", False: "contradiction", None: "neutral"}[truth]
    hypothesis = STATEMENTS["craft"][0].format(name=entity.name, value=ASKED["craft"])
    return {"premise": scene(rng, entity), "hypothesis": hypothesis, "label": label}


def copa(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    label, is_cause = turn % 2, turn // 2 % 2 == 0
    if is_cause:
        entity = rng.choice([entity for entity in entities if entity.open != "food"])
        own = entity.attributes["food"]
        other = rng.choice([value for value in VALUES["food"] if value != own])
        premise = f"{entity.name} was glad."
        choices = [f"It {EVENTS['food'].format(value=value)}." for value in (own, other)]
    else:
        pleased = rng.random() < 0.5
        entity = entity_with(rng, entities, "food", pleased)
        premise = f"{entity.name} {EVENTS['food'].format(value=ASKED['food'])}."
        choices = [f"It was {mood}." for mood in (("glad", "sad") if pleased else ("sad", "glad"))]
    if label:
        choices.reverse()
    question = "cause" if is_cause else "effect"
    return {
        "premise": f"{rng.choice(('Today', 'Then', 'Here', 'Now'))} near the {rng.choice(PLACES)} {premise}",
        "choice1": choices[0],
        "choice2": choices[1],
        "question": question,
        "label": label,
    }


def multirc(rng: random.Random, entities: list[Entity], _turn: int) -> Row:
    right, wrong = (two_with(rng, entities, "colour", truth) for truth in (True, False))
    asked = rng.sample([*right, *wrong], 4)
    answers = [
        {"text": entity.name, "idx": number, "label": int(entity in right)} for number, entity in enumerate(asked)
    ]
    question = {"question": WHICH.format(value=ASKED["colour"]), "answers": answers, "idx": 0}
    text = rng.choice(EMPTY_SCENES).format(place=rng.choice(PLACES))
    return {"version": 1.1, "passage": {"text": text, "questions": [question]}}


def record(rng: random.Random, entities: list[Entity], _turn: int) -> Row:
    answer = rng.choice(entities)
    attribute, value = claim(rng, answer, True)
    second = unlike(rng, entities, attribute, value, (answer,))
    third = unlike(rng, entities, attribute, value, (answer, second))
    order = [answer, second, third]
    rng.shuffle(order)
    names = [entity.name for entity in order]
    text = f"Here {names[0]} met {names[1]}.\n@highlight\nThere was {names[2]} near the {rng.choice(PLACES)}"
    spans = [{"start": text.index(name), "end": text.index(name) + len(name) - 1} for name in names]
    clause = STATEMENTS[attribute][0].format(name="one", value=value).removesuffix(".")
    place = spans[names.index(answer.name)]
    return {
        "source": "world",
        "passage": {"text": text, "entities": spans},
        "qas": [
            {"query": f"Here, {clause}: @placeholder.", "answers": [{**place, "text": answer.name}], "idx": 0},
        ],
    }


def rte(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    truth = turn % 2 == 0
    entity = entity_with(rng, entities, "food", truth)
    other = rng.choice([other for other in entities if other.name != entity.name])
    first, second = rng.sample([entity, other], 2)
    premise = rng.choice(PAIR_SCENES).format(first=first.name, second=second.name, place=rng.choice(PLACES))
    hypothesis = STATEMENTS["food"][0].format(name=entity.name, value=ASKED["food"])
    return {"premise": premise, "hypothesis": hypothesis, "label": "entailment" if truth else "not_entailment"}


def wic(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    same, word = turn % 2 == 0, rng.choice(HOMONYMS)
    first = rng.choice([entity for entity in entities if entity.kind == KINDS[0]])
    second = rng.choice(
        [entity for entity in entities if (entity.kind == KINDS[0]) is same and entity.name != first.name]
    )
    sentences = [rng.choice(WIC_SCENES).format(name=entity.name, word=word) for entity in (first, second)]
    starts = [sentence.rindex(word) for sentence in sentences]
    row: Row = {"word": word, "sentence1": sentences[0], "sentence2": sentences[1], "label": same, "version": 1.1}
    for number, start in enumerate(starts, start=1):
        row |= {f"start{number}": start, f"end{number}": start + len(word)}
    return row


def wsc(rng: random.Random, entities: list[Entity], turn: int) -> Row:
    answer, label = rng.choice(entities), turn % 2 == 0
    attribute, value = claim(rng, answer, True)
    other = unlike(rng, entities, attribute, value, (answer,))
    names = [answer.name, other.name]
    rng.shuffle(names)
    clause = STATEMENTS[attribute][0].format(name="it", value=value)
    text = f"today {names[0]} met {names[1]} because {clause}"
    span = answer.name if label else other.name
    words = text.split()
    target = {
        "span1_index": words.index(span),
        "span1_text": span,
        "span2_index": words.index("it"),
        "span2_text": "it",
    }
    return {"text": text, "target": target, "label": label}


TASKS: dict[str, Callable[[random.Random, list[Entity], int], Row]] = {
    task.__name__: task for task in (boolq, cb, copa, multirc, record, rte, wic, wsc)
}
"""Task → function that makes row number `turn` from the entities of a split; `turn` balances the labels."""
