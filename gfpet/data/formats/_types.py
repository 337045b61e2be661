"""Strict types of values in rows: 1 is not a boolean, and "1" is not an integer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair at character {error.start}") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("empty")
    return text


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("Input should be a finite number")
    return value


AnyText = Annotated[str, AfterValidator(_encodable)]
Text = Annotated[AnyText, AfterValidator(_not_blank)]
Index = Annotated[int, Field(ge=0)]
Bit = Annotated[int, Field(ge=0, le=1)]
Number = Annotated[Any, AfterValidator(_number)]


class StrictRow(BaseModel):
    """Base of row models; ignores unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


def within(name: str, start: int, end: int, length: int, unit: str = "characters") -> None:
    """Raise ValueError unless `start` to `end` (exclusive) is a non-empty span of a text of that length."""
    if not 0 <= start < end <= length:
        raise ValueError(f"{name}: {start} to {end} (exclusive) is not within the {length} {unit} of the text")


def distinct(name: str, indices: Sequence[int]) -> None:
    """Raise ValueError if an index occurs twice."""
    if len(set(indices)) != len(indices):
        raise ValueError(f"{name}: an idx occurs twice")


def as_text(value: object) -> object:
    """A value of a table as text in a task file's notation; only numbers and booleans change.

    >>> as_text(True), as_text(3), as_text(3.0), as_text("yes"), as_text(None)
    ('true', '3', '3', 'yes', None)
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value
