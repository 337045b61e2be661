"""Random passwords of the services on this machine, generated once, in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

NAMES = ("postgres", "mlflow_admin", "mlflow_session", "prefect", "s3")


def load_secrets(file: Path) -> dict[str, str]:
    """Read the passwords of `file`; generate and write missing ones."""
    known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    missing = [name for name in NAMES if name not in known]
    if missing:
        known |= {name: secrets.token_urlsafe(24) for name in missing}
        write_private(file, json.dumps(known, indent=1) + "\n")
    return known


def write_private(file: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner at any time."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
    temporary.replace(file)
