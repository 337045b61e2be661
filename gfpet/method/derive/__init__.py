"""Derives a small model from the large one: choose the blocks to keep, cut out the others, heal the result."""

from __future__ import annotations

from gfpet.method.derive._choose import (
    LOOKED_AT,
    READ_AT_ONCE,
    Choice,
    block_changes,
    choose_blocks,
    count_of,
    evenly,
)
from gfpet.method.derive._cut import Blocks, with_blocks
from gfpet.method.derive._heal import heal
from gfpet.method.derive._runs import Derived, derive_small, heal_cut
from gfpet.method.derive._settings import DeriveSettings, HealSettings, derive_settings, heal_settings
from gfpet.method.derive._text import contexts

__all__ = [
    "LOOKED_AT",
    "READ_AT_ONCE",
    "Blocks",
    "Choice",
    "DeriveSettings",
    "Derived",
    "HealSettings",
    "block_changes",
    "choose_blocks",
    "contexts",
    "count_of",
    "derive_settings",
    "derive_small",
    "evenly",
    "heal",
    "heal_cut",
    "heal_settings",
    "with_blocks",
]
