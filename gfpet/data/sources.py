"""Where rows come from: the official release's files, the Hugging Face hub, or the generated world.

Each source gives the rows of both splits in the form of the official release, with their origin, unchecked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfpet.data.benchmark import TASKS, task_info
from gfpet.data.checks import RawRow
from gfpet.data.hub import from_hub
from gfpet.data.sampling import DEV_PART
from gfpet.errors import DataError, nearest

EMBEDDED_TRAIN = 2000
EMBEDDED_EVAL = 500


@dataclass(frozen=True)
class RawSplit:
    """One split as a source gave it."""

    rows: tuple[RawRow, ...]
    name: str
    """File or split name at the source."""
    sha256: str
    """Of the source file's bytes, or of the rows as canonical JSON where there is no file of the release."""


@dataclass(frozen=True)
class Source:
    """The labelled splits of one task, and what they are."""

    kind: str
    """`directory`, `hub` or `embedded`."""
    id: str
    """The folder, the data set on the hub, or `gfpet.synthetic`."""
    revision: str | None
    """Commit of the data set on the hub, seed of the world; None for a folder, whose hashes say it all."""
    train: RawSplit
    val: RawSplit

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


def read_directory(task: str, root: str | Path) -> Source:
    """Rows of `<root>/<Task>/{train,val}.jsonl`, the layout of the official release.

    Lines that are not UTF-8 or not JSON come back as rows with a problem.

    Raises:
        DataError: a folder or file is missing; says what is there instead.
    """
    folder = task_info(task).folder
    splits = {}
    for split in ("train", "val"):
        name = f"{folder}/{split}.jsonl"
        path = Path(root) / name
        if not path.is_file():
            raise DataError(_missing(Path(root), folder, path))
        data = path.read_bytes()
        splits[split] = RawSplit(tuple(_lines(path, data)), name, hashlib.sha256(data).hexdigest())
    return Source("directory", str(root), None, splits["train"], splits["val"])


def read_hub(task: str, hub_id: str, revision: str) -> Source:
    """Rows of a data set in the form of `aps/super_glue` (configurations named as the tasks, int labels, flat rows).

    Args:
        hub_id: name on the hub, or a local folder of the same form.
        revision: commit of the data set; unused for a local folder.

    Raises:
        DataError: it cannot be loaded, or has other columns.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    task_info(task)
    splits = {}
    for split, hub_split in (("train", "train"), ("val", "validation")):
        name = f"{task}/{hub_split}"
        try:
            table = datasets.load_dataset(hub_id, task, split=hub_split, revision=revision)
        except (OSError, ValueError, DatasetsError) as error:
            raise DataError(
                f"cannot load {name} of data set '{hub_id}' at revision {revision}: {type(error).__name__}: {error}\n"
                "Check prepare.hub_id, prepare.hub_revision and the network, or use prepare.source 'directory' "
                "(a folder of the official release) or 'embedded'."
            ) from error
        rows = tuple(from_hub(task, f"{hub_id}@{revision}/{name}", table.column_names, table))
        splits[split] = RawSplit(rows, name, rows_digest(row.value for row in rows))
    return Source("hub", hub_id, revision, splits["train"], splits["val"])


def generate_embedded(
    task: str, seed: int, train_size: int | None = None, dev_size: int = 200, eval_size: int | None = None
) -> Source:
    """Rows of the generated world, as many as the sizes need (a MultiRC row holds several examples).

    Args:
        seed: draws the rows.
        train_size: examples to train with; null takes 2000, since there is no "all".
        dev_size: examples to hold out; enough rows are made that these are no more than a fifth.
        eval_size: examples to evaluate on; null takes 500.
    """
    from gfpet.synthetic import generate

    task_info(task)
    train = max((train_size or EMBEDDED_TRAIN) + dev_size, math.ceil(dev_size / DEV_PART))
    splits = {}
    for split, values in zip(("train", "val"), generate(task, seed, train, eval_size or EMBEDDED_EVAL), strict=True):
        rows = tuple(RawRow(f"world/{task}/{split}:{line}", value) for line, value in enumerate(values, start=1))
        splits[split] = RawSplit(rows, f"{task}/{split}", rows_digest(values))
    return Source("embedded", "gfpet.synthetic", f"seed {seed}", splits["train"], splits["val"])


def rows_digest(rows: Iterable[object]) -> str:
    """SHA-256 of rows as JSON lines with sorted keys."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode("ascii") + b"\n")
    return digest.hexdigest()


def _lines(path: Path, data: bytes) -> Iterator[RawRow]:
    # Only \n parts lines: str.splitlines would also cut at U+2028, which stands inside strings of the release.
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        origin = f"{path}:{number}"
        try:
            yield RawRow(origin, json.loads(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            yield RawRow(origin, None, f"not UTF-8: byte 0x{line[error.start]:02x} at position {error.start}")
        except (json.JSONDecodeError, RecursionError) as error:
            yield RawRow(origin, None, f"not JSON: {error}" if line.strip() else "an empty line")


def _missing(root: Path, folder: str, path: Path) -> str:
    if not root.is_dir():
        return f"prepare.directory: there is no folder {root}; name the folder that holds {_folders()}."
    if path.parent.is_dir():
        found: Sequence[str] = sorted(entry.name for entry in path.parent.iterdir())
        return (
            f"{path} is missing; {path.parent} holds {', '.join(found) or 'nothing'}, but needs train.jsonl, val.jsonl."
        )
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    guess = nearest(folder, found)
    hint = f" (is '{guess}' meant? Rename it)" if guess else ""
    return f"{path} is missing: {root} has no folder {folder}{hint}. The official release has {_folders()}."


def _folders() -> str:
    return ", ".join(info.folder for info in TASKS.values())
