"""The words of the synthetic language: names, attributes with their values, and the sentence forms for them.

Every value word belongs to one attribute only, so that a sentence can be parsed without a grammar
(`gfpet.synthetic.reader`). Names always follow a space, since the tokenizer has them only in that form.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NAMES = 720
ATTRIBUTES = ("home", "colour", "food", "craft")
"""The four attributes. Each kind of entity leaves one of them open (`OPEN`)."""

VALUES: dict[str, tuple[str, ...]] = {
    "home": ("lake", "hill", "forest", "coast"),
    "colour": ("red", "blue", "green", "white"),
    "food": ("nuts", "fish", "bread", "honey"),
    "craft": ("baker", "smith", "sailor", "hunter"),
}

ASKED: dict[str, str] = {attribute: values[0] for attribute, values in VALUES.items()}
"""Attribute → the only value that yes/no questions ask about, so that the answer depends on the entity alone. With
several values a model would have to compare the entity's value with the question, and models of this size cannot."""

OPEN: dict[str, str] = {"nomad": "home", "human": "colour", "ghost": "food", "beast": "craft"}
"""Kind of entity → the attribute that is open (has no value) for all entities of that kind."""

KINDS = tuple(OPEN)

HOMONYMS = ("bat", "ring", "bow", "crane", "seal", "spring", "match", "pen", "pipe", "bark", "point", "ball")
"""Ambiguous words: they mean something else for each kind of entity (the WiC task)."""

PLACES = ("market", "bridge", "gate", "well", "road", "tower")
"""Places of small talk; no attribute has them as a value."""

STATEMENTS: dict[str, tuple[str, ...]] = {
    "home": (
        "{name} lives by the {value}.",
        "{name} comes from the {value}.",
        "The home of {name} is the {value}.",
    ),
    "colour": (
        "{name} is {value}.",
        "{name} always wears {value}.",
        "The colour of {name} is {value}.",
    ),
    "food": (
        "{name} eats {value}.",
        "{name} is fond of {value}.",
        "The food of {name} is {value}.",
    ),
    "craft": (
        "{name} works as a {value}.",
        "{name} is known as a {value}.",
        "The craft of {name} is that of a {value}.",
    ),
    "kind": (
        "{name} is a {value}.",
        "{name} was born a {value}.",
        "The kind of {name} is {value}.",
    ),
}
"""Attribute → the sentence forms of the corpus for it; tasks use the first one."""

UNKNOWN: dict[str, tuple[str, ...]] = {
    "home": ("Nobody knows where {name} lives.", "The home of {name} is unknown."),
    "colour": ("Nobody knows what {name} wears.", "The colour of {name} is unknown."),
    "food": ("Nobody knows what {name} eats.", "The food of {name} is unknown."),
    "craft": ("Nobody knows how {name} works.", "The craft of {name} is unknown."),
}
"""Attribute → the sentence forms of the corpus for an open attribute."""

PORTRAITS: dict[str, str] = {
    "home": "lives by the {value}",
    "colour": "is {value}",
    "food": "eats {value}",
    "craft": "works as a {value}",
}
"""Attribute → its clause in a portrait, which states all facts of one entity in one sentence."""

QUESTIONS: dict[str, str] = {
    "home": "does {name} live by the {value}",
    "colour": "is {name} {value}",
    "food": "does {name} eat {value}",
    "craft": "does {name} work as a {value}",
}
"""Attribute → yes/no question, in the form of BoolQ (lower case, no mark)."""

WHICH = "What is {value}?"
"""MultiRC's question; each of four entities is an answer to judge."""

EVENTS: dict[str, str] = {
    "home": "came to the {value}",
    "colour": "got a {value} coat",
    "food": "was given {value}",
    "craft": "met a {value}",
}
"""Attribute → an event that makes an entity glad if the value is its own, and sad otherwise."""


@dataclass(frozen=True)
class Entity:
    """One entity: name, kind, the three attributes of its kind, sampling weight, and split."""

    name: str
    kind: str
    attributes: dict[str, str]
    weight: float
    evaluation: bool

    @property
    def open(self) -> str:
        """The attribute that is open for this entity."""
        return OPEN[self.kind]


def invent_names(rng: random.Random, count: int) -> list[str]:
    """`count` distinct names of two syllables each, capitalised."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    pairs = [first.capitalize() + second for first in syllables for second in syllables]
    return rng.sample(pairs, count)
