"""Rows of a source before and after the checks, and the error that lists broken rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gfpet.errors import DataError

LISTED = 20


@dataclass(frozen=True)
class RawRow:
    """A row from a source, before the checks."""

    origin: str
    """Its place: `<file>:<line>`, counted from 1."""
    value: object
    """The decoded value; meaningless if there is a problem."""
    problem: str = ""
    """Why decoding failed; empty if it did not."""


@dataclass(frozen=True)
class Row:
    """A row that passed its task's checks."""

    idx: int
    """Unique within its split; part of the ids of its examples."""
    value: Any
    """Parsed by the task's row format: columns and values, or a pydantic model of the release's nested row."""


@dataclass(frozen=True)
class BrokenRow:
    """A broken row, with every reason."""

    origin: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.origin}: {'; '.join(self.reasons)}"


class BrokenRowsError(DataError):
    """A source has broken rows. `rows` has all of them, the message the first 20."""

    def __init__(self, rows: Sequence[BrokenRow]) -> None:
        self.rows = tuple(rows)
        listed = "\n".join(f"  {row}" for row in self.rows[:LISTED])
        more = f"\n  and {len(self.rows) - LISTED} more" if len(self.rows) > LISTED else ""
        count = "1 broken row" if len(self.rows) == 1 else f"{len(self.rows)} broken rows"
        super().__init__(
            f"{count}:\n{listed}{more}\nEach row must have the fields that its task file names, with a label. "
            "Correct or replace the files named (fetching a release again often helps); nothing was skipped."
        )


def shown(value: object) -> str:
    """A value formatted for an error message: in ASCII, at most 60 characters."""
    if value is None:
        return "null"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
