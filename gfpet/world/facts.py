"""The facts of the world: which beings there are and what is true of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from gfpet.world.lexicon import ATTRIBUTES, KINDS, NAMES, OPEN, VALUES, Being, invent_names

WORLD_SEED = 7
"""The seed of the one world that the committed checkpoints know. Example seeds vary, the world does not."""


@dataclass(frozen=True)
class World:
    """All beings, by name. Two of three serve the tasks' train examples, the third the evaluation examples."""

    beings: dict[str, Being]

    def side(self, evaluation: bool) -> list[Being]:
        """The beings of one split, most often named first."""
        return [being for being in self.beings.values() if being.evaluation is evaluation]

    def verdict(self, name: str, attribute: str, value: str) -> bool | None:
        """Is `value` the `attribute` of `name`? None where the world leaves the attribute open for that being."""
        being = self.beings[name]
        if attribute == "kind":
            return being.kind == value
        if attribute == being.open:
            return None
        return being.attributes[attribute] == value


@cache
def world(seed: int = WORLD_SEED) -> World:
    """The world of a seed: `NAMES` beings; weights fall with the rank, alike on both splits."""
    rng = random.Random(f"world-{seed}")
    beings: dict[str, Being] = {}
    for rank, name in enumerate(invent_names(rng, NAMES)):
        kind = rng.choice(KINDS)
        attributes = {attribute: rng.choice(VALUES[attribute]) for attribute in ATTRIBUTES if attribute != OPEN[kind]}
        weight = 1.0 / (1.0 + rank / 120)
        beings[name] = Being(name, kind, attributes, weight, evaluation=rank % 3 == 2)
    return World(beings)
