"""The interface of a row format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gfpet.data.examples import Example
from gfpet.data.rows import RawRow
from gfpet.data.task import Task

Flat = Mapping[str, Any]
"""A row of a table: column to value."""


@dataclass(frozen=True)
class RowFormat:
    """Functions that check rows of one format and make examples of them. Each takes the task first."""

    reader: Callable[[Task], Callable[[object], Any]]
    """Makes a function that checks a row and parses it for `examples`. It raises ValueError (or pydantic's
    ValidationError, a subclass) with every reason why the row is broken."""
    examples: Callable[[Task, str, Any], Iterator[Example]]
    """Examples of a checked row. The text argument, `<task>/<split>/<idx>`, begins each example's id."""
    hub_columns: Callable[[Task], Collection[str]]
    """Required columns of the hub's table."""
    from_hub: Callable[[Task, str, Iterable[tuple[int, Flat]]], Iterator[RawRow]]
    """Converts the hub's numbered rows to the form of the release. The text argument names the split, for origins."""
    context_fields: frozenset[str] | None = None
    """Fields that the template may name; None allows any column."""
    candidate_fields: frozenset[str] | None = None
    """Fields that the candidates' template may name; None allows `candidate` and any column."""
    groups: frozenset[str] | None = frozenset()
    """Allowed values of `group`; None allows any column."""
    columns: bool = False
    """Whether the task file defines the columns of a row (`fields`, `spans`, `label`, columns of candidates)."""
    labels: frozenset[str] | None = None
    """Labels that the task file must have; None allows any labels, or candidates."""
    makes_candidates: bool = False
    """Whether the rows contain the candidates, so that the task file has no `labels`."""
