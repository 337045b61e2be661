"""Reads JSON lines, each with its origin."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gfpet.data.rows import RawRow


def json_lines(path: Path, data: bytes) -> Iterator[RawRow]:
    """Rows of a JSON-lines file; a line that is not UTF-8 or not JSON gives a row with a problem."""
    # Split at \n only: str.splitlines also splits at U+2028, which occurs inside strings of the release.
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        origin = f"{path}:{number}"
        try:
            yield RawRow(origin, json.loads(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            yield RawRow(origin, None, f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start}")
        except (ValueError, RecursionError) as error:
            yield RawRow(origin, None, f"not JSON: {error}" if line.strip() else "an empty line")
