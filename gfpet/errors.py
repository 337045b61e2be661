"""Errors of gfpet: each says what was wrong, what was found, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GfpetError(Exception):
    """Base of every error that gfpet raises on purpose. Its text is meant for the user."""


class ConfigError(GfpetError):
    """`params.yaml`, a preset or an override does not fit."""


class DataError(GfpetError):
    """A data source is missing, broken or of the wrong form."""


class ModelError(GfpetError):
    """A checkpoint cannot be loaded, or two models do not fit together."""


class FrozenModelError(GfpetError):
    """Something would give the large model a gradient, a trainable parameter or an autograd graph."""


class NumberError(GfpetError):
    """A number that has to be finite is NaN or infinite."""


class ModuleError(GfpetError):
    """A module does not fit the model that it is to be inserted in, or its file is broken."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that looks most like `name`, or None if none comes near."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return close[0] if close else None


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """The text for an unknown `what`: its name, the nearest allowed name, and all of them.

    >>> unknown("task", "bolq", ["boolq", "cb"])
    "unknown task 'bolq'; did you mean 'boolq'? Allowed: boolq, cb."
    """
    choices = sorted(allowed)
    guess = nearest(name, choices)
    hint = f"; did you mean '{guess}'?" if guess else "."
    return f"unknown {what} '{name}'{hint} Allowed: {', '.join(choices)}."
