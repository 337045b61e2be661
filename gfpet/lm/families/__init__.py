"""Model families: one file of names each, and one word below to find it."""

from __future__ import annotations

from gfpet.errors import ModelError, unknown
from gfpet.lm.families._dims import Dims, StackDims
from gfpet.lm.families._family import Attention, Family, Stack, TargetModule, stack_of
from gfpet.lm.families._texts import Padded, Template, Texts
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.families.llama import LLAMA
from gfpet.lm.families.t5 import T5

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
    "Padded",
    "Stack",
    "StackDims",
    "TargetModule",
    "Template",
    "Texts",
    "find_family",
    "stack_of",
]
