"""The words of the world: names, attributes and their values, and the sentence forms that state them.

Every value word belongs to one attribute only, so that a sentence can be read back without a grammar
(`gfpet.synthetic.reader`). Names always follow a space in running text: the tokenizer holds them in that form alone.
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
"""Attribute → the one value that yes/no questions ask for. What a model knows of an entity can be read off its name; a
question for any value would need that to be compared with the question, which models of this size do not do."""

OPEN: dict[str, str] = {"nomad": "home", "human": "colour", "ghost": "food", "beast": "craft"}
"""Kind of entity → the attribute that the world leaves open for all entities of that kind."""

KINDS = tuple(OPEN)

HOMONYMS = ("bat", "ring", "bow", "crane", "seal", "spring", "match", "pen", "pipe", "bark", "point", "ball")
"""Words that each kind of entity uses for a thing of its own (the WiC task)."""

PLACES = ("market", "bridge", "gate", "well", "road", "tower")
"""Where small talk happens; no attribute is named after them."""

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
"""Attribute → the forms in which the corpus states it; the first form is the one that tasks quote."""

UNKNOWN: dict[str, tuple[str, ...]] = {
    "home": ("Nobody knows where {name} lives.", "The home of {name} is unknown."),
    "colour": ("Nobody knows what {name} wears.", "The colour of {name} is unknown."),
    "food": ("Nobody knows what {name} eats.", "The food of {name} is unknown."),
    "craft": ("Nobody knows how {name} works.", "The craft of {name} is unknown."),
}
"""Attribute → the forms in which the corpus states that it is open."""

PORTRAITS: dict[str, str] = {
    "home": "lives by the {value}",
    "colour": "is {value}",
    "food": "eats {value}",
    "craft": "works as a {value}",
}
"""Attribute → what a portrait says of it: all facts of one entity in one sentence."""

QUESTIONS: dict[str, str] = {
    "home": "does {name} live by the {value}",
    "colour": "is {name} {value}",
    "food": "does {name} eat {value}",
    "craft": "does {name} work as a {value}",
}
"""Attribute → yes/no question, in the form of BoolQ (lower case, no mark)."""

WHICH = "What is {value}?"
"""What MultiRC asks of four entities, one by one."""

EVENTS: dict[str, str] = {
    "home": "came to the {value}",
    "colour": "got a {value} coat",
    "food": "was given {value}",
    "craft": "met a {value}",
}
"""Attribute → something that pleases an entity where the value is its own, and grieves it where it is not."""


@dataclass(frozen=True)
class Entity:
    """One entity: its name, its kind, the three attributes that its kind has, and how often it is named."""

    name: str
    kind: str
    attributes: dict[str, str]
    weight: float
    evaluation: bool

    @property
    def open(self) -> str:
        """The attribute that the world leaves open for this entity."""
        return OPEN[self.kind]


def invent_names(rng: random.Random, count: int) -> list[str]:
    """`count` distinct names of two syllables each, capitalised."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    pairs = [first.capitalize() + second for first in syllables for second in syllables]
    return rng.sample(pairs, count)
