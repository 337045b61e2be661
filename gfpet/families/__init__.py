"""Model families: one file of names each, and one word below to find it."""

from __future__ import annotations

from gfpet.errors import ModelError, unknown
from gfpet.families._dims import Dims, StackDims
from gfpet.families._family import Attention, Family, Site, Stack, stack_of
from gfpet.families._texts import Frame, Padded, Texts
from gfpet.families.gpt2 import GPT2
from gfpet.families.llama import LLAMA
from gfpet.families.t5 import T5

FAMILIES = {family.name: family for family in (GPT2, LLAMA, T5)}


def find_family(name: str) -> Family:
    """The family of that name.

    Raises:
        ModelError: no such family; names the nearest.
    """
    if name not in FAMILIES:
        raise ModelError(unknown("model family", name, FAMILIES))
    return FAMILIES[name]


__all__ = [
    "FAMILIES",
    "Attention",
    "Dims",
    "Family",
    "Frame",
    "Padded",
    "Site",
    "Stack",
    "StackDims",
    "Texts",
    "find_family",
    "stack_of",
]
