"""The records of an estimate, and the names that tables and plots show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""One method (`gfpet.estimate.as_records`)."""


def title_of(record: Record) -> str:
    """A method's name in tables."""
    name = record["method"] + (f", {record['kind']}" if record["kind"] else "")
    return f"{name}, checkpointed" if record["checkpointed"] else str(name)
