"""Which rows of a source can be used, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from gfpet.data.benchmark import task_info
from gfpet.data.rows import ROWS, Row
from gfpet.errors import DataError

LISTED = 20


@dataclass(frozen=True)
class RawRow:
    """A row as a source gave it, not yet checked."""

    origin: str
    """Where it stands: `<file>:<line>`, counted from 1."""
    value: object
    """The decoded JSON value; meaningless where there is a problem."""
    problem: str = ""
    """Why it could not be decoded; empty where it could."""


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be used, and every reason."""

    origin: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.origin}: {'; '.join(self.reasons)}"


class BrokenRowsError(DataError):
    """Rows of a source cannot be used. `rows` has all of them, the text the first 20."""

    def __init__(self, rows: Sequence[BrokenRow]) -> None:
        self.rows = tuple(rows)
        listed = "\n".join(f"  {row}" for row in self.rows[:LISTED])
        more = f"\n  and {len(self.rows) - LISTED} more" if len(self.rows) > LISTED else ""
        count = "1 broken row" if len(self.rows) == 1 else f"{len(self.rows)} broken rows"
        super().__init__(
            f"{count}:\n{listed}{more}\nRows must have the form of the SuperGLUE release, with labels. "
            "Correct or replace the files named (fetching them again often helps); nothing was skipped."
        )


def check_rows(task: str, rows: Iterable[RawRow]) -> tuple[list[Row], list[BrokenRow]]:
    """Sort the rows of one split into whole and broken ones; a repeated `idx` is broken too.

    Raises:
        DataError: there is no such task.
    """
    task_info(task)
    adapter: TypeAdapter[Row] = TypeAdapter(ROWS[task])
    whole: list[Row] = []
    broken: list[BrokenRow] = []
    seen: dict[int, str] = {}
    for raw in rows:
        reasons = [raw.problem] if raw.problem else []
        if not reasons and not isinstance(raw.value, dict):
            reasons = [f"not an object but {_shown(raw.value)}"]
        if not reasons:
            try:
                row = adapter.validate_python(raw.value)
            except ValidationError as error:
                reasons = [_reason(detail["loc"], detail["msg"], detail["input"]) for detail in error.errors()]
            else:
                if row.idx in seen:
                    reasons = [f"idx: {row.idx} again, first at {seen[row.idx]}"]
                else:
                    seen[row.idx] = raw.origin
                    whole.append(row)
        if reasons:
            broken.append(BrokenRow(raw.origin, tuple(reasons)))
    return whole, broken


def _reason(location: tuple[int | str, ...], message: str, found: object) -> str:
    where = ".".join(str(part) for part in location)
    text = message.removeprefix("Value error, ")
    if not where or isinstance(found, dict):
        return f"{where}: {text}" if where else text
    return f"{where}: {text} (found {_shown(found)})"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
