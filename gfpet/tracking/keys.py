"""The key of a result: a hash of all its inputs, the same before its stage runs and afterwards in `dvc.lock`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_HASHES = ("md5", "etag", "checksum")
_EXAMPLES = "outputs/prepare"


def stage_key(lock_entry: Mapping[str, Any]) -> str:
    """SHA-256 over command, dependencies (path and hash) and parameters of an entry of `dvc.lock`, without outputs.

    Sizes, file counts and flags of dependencies are left out, since the hash covers their content.
    """
    deps = []
    for dep in lock_entry.get("deps") or ():
        deps.append([str(dep["path"]), _hash(dep)])
    content = {"cmd": lock_entry["cmd"], "deps": sorted(deps), "params": lock_entry.get("params") or {}}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def examples_read(lock_entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Path and hash of the prepared examples among the dependencies of an entry of `dvc.lock`."""
    deps = [(str(dep["path"]), _hash(dep)) for dep in lock_entry.get("deps") or ()]
    return [(path, hashed) for path, hashed in deps if path.startswith(_EXAMPLES) and hashed]


def _hash(dep: Mapping[str, Any]) -> str:
    return next((str(dep[name]) for name in _HASHES if dep.get(name)), "")
