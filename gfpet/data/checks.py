"""Separates valid rows of a source from broken ones, with reasons."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError

from gfpet.data.formats import FORMATS
from gfpet.data.rows import BrokenRow, RawRow, Row, shown
from gfpet.data.task import Task


def check_rows(task: Task, rows: Iterable[RawRow]) -> tuple[list[Row], list[BrokenRow]]:
    """Separate the rows of one split into valid and broken ones; a row that repeats an `idx` is broken too."""
    read = FORMATS[task.rows].reader(task)
    whole: list[Row] = []
    broken: list[BrokenRow] = []
    seen: dict[int, str] = {}
    for raw in rows:
        reasons = [raw.problem] if raw.problem else []
        if not reasons:
            if isinstance(raw.value, dict):
                try:
                    value = read(raw.value)
                except ValidationError as error:
                    reasons = [_reason(detail["loc"], detail["msg"], detail["input"]) for detail in error.errors()]
                except ValueError as error:
                    reasons = [str(error)]
                else:
                    idx: int = raw.value["idx"]
                    if idx in seen:
                        reasons = [f"idx: {idx} again, first at {seen[idx]}"]
                    else:
                        seen[idx] = raw.origin
                        whole.append(Row(idx, value))
            else:
                reasons = [f"not an object but {shown(raw.value)}"]
        if reasons:
            broken.append(BrokenRow(raw.origin, tuple(reasons)))
    return whole, broken


def _reason(location: tuple[int | str, ...], message: str, found: object) -> str:
    where = ".".join(str(part) for part in location)
    text = message.removeprefix("Value error, ")
    if not where or isinstance(found, dict):
        return f"{where}: {text}" if where else text
    return f"{where}: {text} (found {shown(found)})"
