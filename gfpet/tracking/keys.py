"""The name of a result: a hash of all that went into it, the same before a stage runs and in `dvc.lock` afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_HASHES = ("md5", "etag", "checksum")


def stage_key(lock_entry: Mapping[str, Any]) -> str:
    """SHA-256 over command, dependencies (path and hash) and parameters of an entry of `dvc.lock`; not the outputs.

    Sizes, file counts and flags of dependencies don't count: the hash stands for the content.
    """
    deps = []
    for dep in lock_entry.get("deps") or ():
        hashed = next((str(dep[name]) for name in _HASHES if dep.get(name)), "")
        deps.append([str(dep["path"]), hashed])
    content = {"cmd": lock_entry["cmd"], "deps": sorted(deps), "params": lock_entry.get("params") or {}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
