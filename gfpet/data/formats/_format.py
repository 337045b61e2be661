"""What a row format is made of."""

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
    """How rows of one form are checked and become examples. Every function takes the task first."""

    reader: Callable[[Task], Callable[[object], Any]]
    """Makes the check of a row. It returns what `examples` takes, and raises ValueError (pydantic's ValidationError is
    one) with every reason why the row is broken."""
    examples: Callable[[Task, str, Any], Iterator[Example]]
    """Examples of a checked row; the text is `<task>/<split>/<idx>` and begins each example's id."""
    hub_columns: Callable[[Task], Collection[str]]
    """Columns of the hub's table."""
    from_hub: Callable[[Task, str, Iterable[tuple[int, Flat]]], Iterator[RawRow]]
    """Rows in the form of the release, of the hub's numbered rows; the text is the split's name for origins."""
    context_fields: frozenset[str] | None = None
    """What the template may name; None for any column."""
    candidate_fields: frozenset[str] | None = None
    """What the candidates' template may name; None for `candidate` and any column."""
    groups: frozenset[str] | None = frozenset()
    """What `group` may be; None for any column."""
    columns: bool = False
    """Whether the task file says which columns a row has (`fields`, `spans`, `label`, columns of candidates)."""
    labels: frozenset[str] | None = None
    """Labels that the task file must have; None for any, or candidates of each row's own."""
    makes_candidates: bool = False
    """Whether the rows hold the candidates, so that the task file has no `labels`."""
