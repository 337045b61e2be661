"""Templates: text with `{field}` in it. `{{` and `}}` stand for braces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from string import Formatter


@cache
def _parts(template: str) -> tuple[tuple[str, str | None], ...]:
    """Literal text, and the field after it (None at the end).

    Raises:
        ValueError: what of it is no plain `{field}`.
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
    """Fields that a template names, each once, in order.

    Raises:
        ValueError: unbalanced braces, or more than a name in them.
    """
    return list(dict.fromkeys(field for _, field in _parts(template) if field is not None))


def fill(template: str, fields: Mapping[str, str]) -> str:
    """The template with its fields put in; braces inside of a field's text stay as they are."""
    return "".join(text + (fields[field] if field is not None else "") for text, field in _parts(template))
