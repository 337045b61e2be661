"""Entries of `dvc.lock`. They transfer a stage's result from one clone to another: names and hashes, no data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

LockEntry = Mapping[str, Any]


def read_lock(root: Path) -> dict[str, LockEntry]:
    """All entries of `dvc.lock`, by stage."""
    file = root / "dvc.lock"
    if not file.is_file():
        return {}
    from dvc.utils.serialize import load_yaml

    return dict(load_yaml(str(file)).get("stages") or {})


def merge_lock(root: Path, entries: Mapping[str, LockEntry]) -> None:
    """Replace or add entries of `dvc.lock`. No `dvc` may run in `root` meanwhile."""
    if not entries:
        return
    from dvc.utils.serialize import dump_yaml

    stages = {**read_lock(root), **entries}
    file = root / "dvc.lock"
    temporary = file.with_suffix(".lock.new")
    dump_yaml(str(temporary), {"schema": "2.0", "stages": {name: stages[name] for name in sorted(stages)}})
    temporary.replace(file)
