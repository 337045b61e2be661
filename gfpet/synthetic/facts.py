"""The facts of the synthetic benchmark: its entities and their attributes."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from gfpet.synthetic.lexicon import ATTRIBUTES, KINDS, NAMES, OPEN, VALUES, Entity, invent_names

SYNTHETIC_SEED = 7
"""Seed of the facts that the committed checkpoints know. The seed of the task rows may vary, this one may not."""


@dataclass(frozen=True)
class Facts:
    """All entities by name. Two of three are used in train examples, every third in evaluation examples."""

    entities: dict[str, Entity]

    def side(self, evaluation: bool) -> list[Entity]:
        """The entities of one split, the most frequent first."""
        return [entity for entity in self.entities.values() if entity.evaluation is evaluation]

    def verdict(self, name: str, attribute: str, value: str) -> bool | None:
        """Whether `value` is the `attribute` of `name`; None if the attribute is open for that entity."""
        entity = self.entities[name]
        if attribute == "kind":
            return entity.kind == value
        if attribute == entity.open:
            return None
        return entity.attributes[attribute] == value


@cache
def facts_of_seed(seed: int = SYNTHETIC_SEED) -> Facts:
    """The facts of a seed: `NAMES` entities, with weights that fall with the rank in the same way on both splits."""
    rng = random.Random(f"world-{seed}")
    entities: dict[str, Entity] = {}
    for rank, name in enumerate(invent_names(rng, NAMES)):
        kind = rng.choice(KINDS)
        attributes = {attribute: rng.choice(VALUES[attribute]) for attribute in ATTRIBUTES if attribute != OPEN[kind]}
        weight = 1.0 / (1.0 + rank / 120)
        entities[name] = Entity(name, kind, attributes, weight, evaluation=rank % 3 == 2)
    return Facts(entities)
