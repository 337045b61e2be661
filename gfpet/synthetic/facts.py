"""The facts of the world: which entities there are and what is true of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from gfpet.synthetic.lexicon import ATTRIBUTES, KINDS, NAMES, OPEN, VALUES, Entity, invent_names

SYNTHETIC_SEED = 7
"""The seed of the one world that the committed checkpoints know. Example seeds vary, the world does not."""


@dataclass(frozen=True)
class Facts:
    """All entities, by name. Two of three serve the tasks' train examples, the third the evaluation examples."""

    entities: dict[str, Entity]

    def side(self, evaluation: bool) -> list[Entity]:
        """The entities of one split, most often named first."""
        return [entity for entity in self.entities.values() if entity.evaluation is evaluation]

    def verdict(self, name: str, attribute: str, value: str) -> bool | None:
        """Is `value` the `attribute` of `name`? None where the world leaves the attribute open for that entity."""
        entity = self.entities[name]
        if attribute == "kind":
            return entity.kind == value
        if attribute == entity.open:
            return None
        return entity.attributes[attribute] == value


@cache
def facts_of_seed(seed: int = SYNTHETIC_SEED) -> Facts:
    """The world of a seed: `NAMES` entities; weights fall with the rank, alike on both splits."""
    rng = random.Random(f"world-{seed}")
    entities: dict[str, Entity] = {}
    for rank, name in enumerate(invent_names(rng, NAMES)):
        kind = rng.choice(KINDS)
        attributes = {attribute: rng.choice(VALUES[attribute]) for attribute in ATTRIBUTES if attribute != OPEN[kind]}
        weight = 1.0 / (1.0 + rank / 120)
        entities[name] = Entity(name, kind, attributes, weight, evaluation=rank % 3 == 2)
    return Facts(entities)
