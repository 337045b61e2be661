"""Records of an estimate, and their names in tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = Mapping[str, Any]
"""Estimate for one method (`gfpet.estimate.as_records`)."""


def title_of(record: Record) -> str:
    """A method's name in tables."""
    name = record["method"] + (f", {record['kind']}" if record["kind"] else "")
    return f"{name}, checkpointed" if record["checkpointed"] else str(name)
