"""The pretraining text of the synthetic benchmark.

*Statements* give every fact of every entity, in several forms. *Selections* say which of two entities a clause fits,
for entities of the train split only. Evaluation entities occur only in statements and small talk. No text has the form
of a task.

The text teaches facts only. A model learns these in minutes, and stores them with the entity's name, where a module can
read them. Learning to judge a claim takes far longer (docs/log.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from typing import Literal

from gfpet.synthetic.facts import SYNTHETIC_SEED, Facts, facts_of_seed
from gfpet.synthetic.lexicon import (
    ATTRIBUTES,
    HOMONYMS,
    PLACES,
    PORTRAITS,
    STATEMENTS,
    UNKNOWN,
    VALUES,
    Entity,
)

OPENERS = ("Now", "Look,", "Then", "Well,", "Today", "Here", "There")
CHATTER = (
    "Yes, said {a}.",
    "No, said {a}.",
    "Maybe, said {a}.",
    "{a} met {b} near the {place}.",
    "{a} went to the {place}, so {b} left.",
    "{b} left because {a} went to the {place}.",
    "{a} had a question.",
    "{b} had no answer for {a}.",
    "It was glad, {a} says of {b}.",
    "It was sad, {a} says of {b}.",
    "{a} saw a {word} near the {place}.",
    "In this text, {a} refers to {b}.",
    "{a} has a {word} and {b} the same.",
    "They mean {a}.",
)

SHARES = {"statement": 84, "selection": 10, "chatter": 6}
"""Type of sentence → its share of all sentences, in percent."""

SELECTION_WORDS = " Of it and it, one: it."
"""The words of selections that are in no table, for the tokenizer."""


def claim(rng: random.Random, entity: Entity, truth: bool | None) -> tuple[str, str]:
    """An attribute and a value that are true (True), false (False) or open (None) for `entity`."""
    if truth is None:
        return entity.open, rng.choice(VALUES[entity.open])
    attribute = rng.choice([attribute for attribute in ATTRIBUTES if attribute != entity.open])
    own = entity.attributes[attribute]
    return attribute, own if truth else rng.choice([value for value in VALUES[attribute] if value != own])


def portrait(rng: random.Random, entity: Entity) -> str:
    """The three attributes of `entity` in one sentence, in any order."""
    first, second, third = (
        PORTRAITS[attribute].format(value=value) for attribute, value in shuffled(rng, entity.attributes)
    )
    return f"{entity.name} {first}, {second} and {third}."


def shuffled(rng: random.Random, attributes: dict[str, str]) -> list[tuple[str, str]]:
    """The attributes with their values, in random order."""
    return rng.sample(list(attributes.items()), len(attributes))


def statement(rng: random.Random, entity: Entity) -> str:
    """A portrait of `entity`, or one fact: its kind, one of its three attributes, or that the fourth is open."""
    if rng.random() < 0.5:
        return portrait(rng, entity)
    attribute = rng.choice(("kind", *ATTRIBUTES))
    if attribute == entity.open:
        return rng.choice(UNKNOWN[attribute]).format(name=entity.name)
    value = entity.kind if attribute == "kind" else entity.attributes[attribute]
    return rng.choice(STATEMENTS[attribute]).format(name=entity.name, value=value)


def selection(rng: random.Random, first: Entity, second: Entity) -> str:
    """A sentence that says which of two entities a clause fits; a statement if it fits both."""
    fits, other = (first, second) if rng.random() < 0.5 else (second, first)
    attribute, value = claim(rng, fits, True)
    if other.attributes.get(attribute) == value:
        return statement(rng, fits)
    clause = STATEMENTS[attribute][rng.randrange(2)].format(name="one", value=value).removesuffix(".")
    return f"Of {first.name} and {second.name}, {clause}: {fits.name}."


def chatter(rng: random.Random, first: Entity, second: Entity) -> str:
    """Small talk: the words of the prompts, without any fact."""
    form = rng.choice(CHATTER)
    return form.format(a=first.name, b=second.name, place=rng.choice(PLACES), word=rng.choice(HOMONYMS))


def corpus(
    seed: int = 0,
    facts: Facts | None = None,
    start: int = 24,
    hold: int = 8_000,
    ramp: int = 25_000,
    growth: Literal["linear", "geometric"] = "linear",
) -> Iterator[str]:
    """Endless documents of a few sentences each, the same for the same seed. No document starts with a name.

    The number of entities grows: the first `hold` documents use `start` entities, and `ramp` documents later all are
    used. Small models learn to store facts many times sooner from few entities than from all at once.

    Args:
        growth: `linear`: a constant number of new entities per document; `geometric`: a number in proportion to those
            already in use.
    """
    facts = facts or facts_of_seed(SYNTHETIC_SEED)
    rng = random.Random(f"corpus-{seed}")
    everyone = list(facts.entities.values())
    for number in count():
        done = max(0, number - hold)
        if growth == "linear":
            count_now = start + done * (len(everyone) - start) // ramp
        else:
            count_now = int(start * (len(everyone) / start) ** (done / ramp)) if done < ramp else len(everyone)
        grown = everyone[: min(len(everyone), count_now)]
        yield document(rng, grown, [entity for entity in grown if not entity.evaluation])


def document(rng: random.Random, everyone: list[Entity], known: list[Entity]) -> str:
    """A document of three to eight sentences; selections name only entities of `known`."""
    weights, known_weights = _weights(everyone), _weights(known)
    sentences = []
    for sort in rng.choices(list(SHARES), list(SHARES.values()), k=rng.randint(3, 8)):
        if sort == "selection":
            sentences.append(selection(rng, *sample_pair(rng, known, known_weights, same_kind=rng.random() < 0.35)))
        elif sort == "chatter":
            sentences.append(chatter(rng, *rng.sample(everyone, 2)))
        else:
            sentences.append(statement(rng, rng.choices(everyone, cum_weights=weights)[0]))
    return " ".join((rng.choice(OPENERS), *sentences))


def sample_pair(
    rng: random.Random, entities: list[Entity], weights: Sequence[float], same_kind: bool
) -> tuple[Entity, Entity]:
    """Two different entities, drawn by cumulative weights; with `same_kind` of one kind, if possible."""
    first = rng.choices(entities, cum_weights=weights)[0]
    peers = [entity for entity in entities if entity.kind == first.kind and entity.name != first.name]
    if same_kind and peers:
        return first, rng.choice(peers)
    while True:
        second = rng.choices(entities, cum_weights=weights)[0]
        if second.name != first.name:
            return first, second


def _weights(entities: list[Entity]) -> list[float]:
    return list(accumulate(entity.weight for entity in entities))
