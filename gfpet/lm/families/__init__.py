"""Model families: one file each, listed in `gfpet.lm.registry`."""

from __future__ import annotations

from gfpet.errors import ModelError, unknown
from gfpet.lm.families._dims import Dims, StackDims
from gfpet.lm.families._family import EMBEDDINGS, Attention, Family, Stack, TargetModule, stack_of
from gfpet.lm.families._texts import Padded, Template, Texts
from gfpet.lm.registry import FAMILIES as _ENTRIES
from gfpet.lm.registry import load_entry

FAMILIES: dict[str, Family] = {name: load_entry(entry) for name, entry in _ENTRIES.items()}
"""All families, by name."""


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ModelError: no such family; names the nearest.
    """
    if name not in FAMILIES:
        raise ModelError(unknown("model family", name, FAMILIES))
    return FAMILIES[name]


__all__ = [
    "EMBEDDINGS",
    "FAMILIES",
    "Attention",
    "Dims",
    "Family",
    "Padded",
    "Stack",
    "StackDims",
    "TargetModule",
    "Template",
    "Texts",
    "find_family",
    "stack_of",
]
