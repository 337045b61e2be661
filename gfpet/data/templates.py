"""Templates: text with `{field}` placeholders. `{{` and `}}` are literal braces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from string import Formatter


@cache
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """Pairs of literal text and the field after it (None at the end).

    Raises:
        ValueError: a placeholder is not a plain `{field}`, or braces are unbalanced.
    """
    parts = []
    for text, field, layout, conversion in Formatter().parse(template):
        if field is not None and (layout or conversion):
            raise ValueError(f"'{{{field}}}' has a format or a conversion; only a field's name may stand in braces")
        if field == "":
            raise ValueError("'{}' names no field; write {field}, or {{ and }} for braces")
        parts.append((text, field))
    return tuple(parts)


def placeholders(template: str) -> list[str]:
    """The fields of a template, each once, in order.

    Raises:
        ValueError: unbalanced braces, or braces with more than a name.
    """
    return list(dict.fromkeys(field for _, field in _parts(template) if field is not None))


def fill(template: str, fields: Mapping[str, str]) -> str:
    """The template with its fields filled in; braces in a field's text stay unchanged."""
    return "".join(text + (fields[field] if field is not None else "") for text, field in _parts(template))
