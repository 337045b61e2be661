"""Section `modules`: the options of each kind, derived from the entries of `gfpet.lm.registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import create_model

from gfpet.config._section import Chosen, Positive, PositiveFloat, Section, TargetModule
from gfpet.lm.registry import KINDS, Default, KindEntry


def _type(default: Default) -> Any:
    """The field type for a default: a count, a positive number or a list of target modules."""
    if isinstance(default, int):
        return Positive
    return PositiveFloat if isinstance(default, float) else Chosen[TargetModule]


def _options(entry: KindEntry) -> type[Section]:
    fields: dict[str, Any] = {name: (_type(default), default) for name, default in entry.options.items()}
    return create_model(entry.name.title(), __base__=Section, __doc__=f"Options of kind `{entry.name}`.", **fields)


def _all_options() -> type[Section]:
    sections = {name: _options(entry) for name, entry in KINDS.items()}
    # Other processes find a class by its name in this file.
    globals().update({section.__name__: section for section in sections.values()})
    fields: dict[str, Any] = {name: (section, section()) for name, section in sections.items()}
    return create_model("Modules", __base__=Section, __doc__="Options of every kind of module.", **fields)


if TYPE_CHECKING:
    Modules = Section
else:
    Modules = _all_options()
