"""gfpet's errors. Each message says what was wrong, what was found, what is allowed, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GfpetError(Exception):
    """Base of all errors that gfpet raises on purpose. The message is for the user."""


class ConfigError(GfpetError):
    """`params.yaml`, a preset or an override is invalid."""


class DataError(GfpetError):
    """A data source is missing, broken or in the wrong format."""


class ModelError(GfpetError):
    """A checkpoint cannot be loaded, or two models do not fit together."""


class FrozenModelError(GfpetError):
    """The large model has, or would get, a gradient, a trainable parameter or an autograd graph."""


class NumberError(GfpetError):
    """A number that must be finite is NaN or infinite."""


class ModuleError(GfpetError):
    """A module does not fit its model, or its file is broken."""


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name closest to `name`, or None if none is similar."""
    close = difflib.get_close_matches(name, list(allowed), n=1)
    return close[0] if close else None


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Error text for an unknown `what`: its name, the nearest allowed name, and all allowed names.

    >>> unknown("task", "bolq", ["boolq", "cb"])
    "unknown task 'bolq'; did you mean 'boolq'? Allowed: boolq, cb."
    """
    choices = sorted(allowed)
    guess = nearest(name, choices)
    hint = f"; did you mean '{guess}'?" if guess else "."
    return f"unknown {what} '{name}'{hint} Allowed: {', '.join(choices)}."
