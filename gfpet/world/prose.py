"""The pretraining text of the world.

Two layers. *Statements* say every fact of every being, in several forms. *Skills* (judging a claim, comparing two
beings, picking one of two, being pleased or grieved) are shown with the beings of the train split only, and in other
words than the tasks use: no evaluation being occurs outside statements and small talk, and no text has task form.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, count

from gfpet.world.facts import WORLD_SEED, World, world
from gfpet.world.lexicon import (
    ATTRIBUTES,
    EVENTS,
    HOMONYMS,
    PLACES,
    PORTRAITS,
    QUESTIONS,
    STATEMENTS,
    UNKNOWN,
    VALUES,
    Being,
)

OPENERS = ("Now", "Look,", "Then", "Well,", "Today", "Here", "There")
JUDGEMENTS = {True: ("true", "Indeed"), False: ("false", "Hardly"), None: ("unclear", "Perhaps")}
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

SHARES = {
    "statement": (70, 24),
    "judgement": (9, 24),
    "roll": (9, 20),
    "event": (4, 12),
    "selection": (4, 10),
    "comparison": (2, 7),
    "chatter": (2, 3),
}
"""Sort of sentence → its share of all sentences in percent, while the world grows and from then on."""

SKILL_WORDS = (
    " On it: About it: indeed, hardly, perhaps.",
    " Some say the: They said the. It was. Tell me, is it?",
    " In kind, it and it are alike apart. speak one tongue two tongues",
    " Of it and it, one: it. smiled as it came. cried as it got and smiled. and cried.",
)
"""Every word of the skill sentences below that no table holds, for the tokenizer."""


def claim(rng: random.Random, being: Being, truth: bool | None) -> tuple[str, str]:
    """An attribute and a value of which `being` has the verdict `truth`."""
    if truth is None:
        return being.open, rng.choice(VALUES[being.open])
    attribute = rng.choice([attribute for attribute in ATTRIBUTES if attribute != being.open])
    own = being.attributes[attribute]
    return attribute, own if truth else rng.choice([value for value in VALUES[attribute] if value != own])


def portrait(rng: random.Random, being: Being) -> str:
    """The three attributes of `being` in one sentence, in any order."""
    first, second, third = (
        PORTRAITS[attribute].format(value=value) for attribute, value in shuffled(rng, being.attributes)
    )
    return f"{being.name} {first}, {second} and {third}."


def shuffled(rng: random.Random, attributes: dict[str, str]) -> list[tuple[str, str]]:
    """The attributes with their values, in random order."""
    return rng.sample(list(attributes.items()), len(attributes))


def statement(rng: random.Random, being: Being) -> str:
    """One fact of `being`: its kind, one of its three attributes, or that the fourth is open."""
    if rng.random() < 0.5:
        return portrait(rng, being)
    attribute = rng.choice(("kind", *ATTRIBUTES))
    if attribute == being.open:
        return rng.choice(UNKNOWN[attribute]).format(name=being.name)
    value = being.kind if attribute == "kind" else being.attributes[attribute]
    return rng.choice(STATEMENTS[attribute]).format(name=being.name, value=value)


def judgement(rng: random.Random, being: Being) -> str:
    """A claim about `being` and the verdict on it."""
    truth = rng.choice((True, True, False, False, None))
    attribute, value = claim(rng, being, truth)
    word, reply = JUDGEMENTS[truth]
    form = rng.randrange(4)
    if form == 3:
        question = QUESTIONS[attribute].format(name=being.name, value=value)
        return f"Tell me, {question}? {reply}."
    said = STATEMENTS[attribute][rng.randrange(2)].format(name=being.name, value=value).removesuffix(".")
    return (f"Some say {said}: {word}.", f"They said {said}. It was {word}.", f"{said}? {reply}.")[form]


def roll(rng: random.Random, being: Being) -> str:
    """Several values and, after each, whether it is the being's own: many verdicts in few words."""
    items = []
    for _ in range(rng.randint(3, 6)):
        truth = rng.choice((True, True, True, False, False, False, None))
        items.append(f"{claim(rng, being, truth)[1]} {JUDGEMENTS[truth][1].lower()}")
    return f"{rng.choice(('On', 'About'))} {being.name}: {', '.join(items)}."


def comparison(rng: random.Random, first: Being, second: Being) -> str:
    """Do two beings share a kind or a value?"""
    alike = first.kind == second.kind
    if rng.random() < 0.5:
        return f"In kind, {first.name} and {second.name} are {'alike' if alike else 'apart'}."
    return f"{first.name} and {second.name} speak {'one tongue' if alike else 'two tongues'}."


def selection(rng: random.Random, first: Being, second: Being) -> str:
    """Which of two beings does a clause fit?"""
    fits, other = (first, second) if rng.random() < 0.5 else (second, first)
    attribute, value = claim(rng, fits, True)
    if other.attributes.get(attribute) == value:
        return judgement(rng, fits)
    clause = STATEMENTS[attribute][rng.randrange(2)].format(name="one", value=value).removesuffix(".")
    return f"Of {first.name} and {second.name}, {clause}: {fits.name}."


def event(rng: random.Random, being: Being) -> str:
    """What happened to `being`, and how it took it."""
    pleased = rng.random() < 0.5
    attribute, value = claim(rng, being, pleased)
    happened = f"{being.name} {EVENTS[attribute].format(value=value)}"
    if rng.random() < 0.5:
        return f"{happened} and {'smiled' if pleased else 'cried'}."
    return f"{being.name} {'smiled' if pleased else 'cried'} as it {EVENTS[attribute].format(value=value)}."


def chatter(rng: random.Random, first: Being, second: Being) -> str:
    """Small talk: the words of the prompts, with no fact in it."""
    form = rng.choice(CHATTER)
    return form.format(a=first.name, b=second.name, place=rng.choice(PLACES), word=rng.choice(HOMONYMS))


SINGLE: dict[str, Callable[[random.Random, Being], str]] = {"judgement": judgement, "roll": roll, "event": event}


def corpus(
    seed: int = 0, facts: World | None = None, start: int = 24, hold: int = 8_000, ramp: int = 25_000
) -> Iterator[str]:
    """Endless documents of a few sentences each, the same for the same seed. No document starts with a name.

    The world grows: the first `hold` documents know `start` beings, and after `ramp` more all are there. Small models
    learn how facts are kept from few beings many times sooner than from all at once.
    """
    facts = facts or world(WORLD_SEED)
    rng = random.Random(f"corpus-{seed}")
    everyone = list(facts.beings.values())
    for number in count():
        grown = everyone[: min(len(everyone), start + max(0, number - hold) * (len(everyone) - start) // ramp)]
        shares = [share[number >= hold + ramp] for share in SHARES.values()]
        yield document(rng, grown, [being for being in grown if not being.evaluation], shares)


def document(rng: random.Random, everyone: list[Being], known: list[Being], shares: list[int]) -> str:
    """Three to eight sentences; those of a skill name only beings of `known`."""
    weights, known_weights = _weights(everyone), _weights(known)
    sentences = []
    for sort in rng.choices(list(SHARES), shares, k=rng.randint(3, 8)):
        if sort in ("comparison", "selection"):
            first, second = sample_pair(rng, known, known_weights, same_kind=rng.random() < 0.35)
            sentences.append((comparison if sort == "comparison" else selection)(rng, first, second))
        elif sort in SINGLE:
            sentences.append(SINGLE[sort](rng, rng.choices(known, cum_weights=known_weights)[0]))
        elif sort == "chatter":
            sentences.append(chatter(rng, *rng.sample(everyone, 2)))
        else:
            sentences.append(statement(rng, rng.choices(everyone, cum_weights=weights)[0]))
    return " ".join((rng.choice(OPENERS), *sentences))


def sample_pair(
    rng: random.Random, beings: list[Being], weights: Sequence[float], same_kind: bool
) -> tuple[Being, Being]:
    """Two different beings, by cumulative weights; of one kind where asked."""
    first = rng.choices(beings, cum_weights=weights)[0]
    peers = [being for being in beings if being.kind == first.kind and being.name != first.name]
    if same_kind and peers:
        return first, rng.choice(peers)
    while True:
        second = rng.choices(beings, cum_weights=weights)[0]
        if second.name != first.name:
            return first, second


def _weights(beings: list[Being]) -> list[float]:
    return list(accumulate(being.weight for being in beings))
