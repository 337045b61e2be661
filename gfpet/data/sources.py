"""Sources of a shipped task's rows: the official release, the Hugging Face hub, or the synthetic benchmark.

Each source returns the rows of both splits in the form of the official release, with their origins, unchecked.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfpet.data.catalogue import shipped_tasks
from gfpet.data.formats import FORMATS, Flat
from gfpet.data.json_lines import json_lines
from gfpet.data.rows import RawRow
from gfpet.data.sampling import DEV_PART
from gfpet.data.task import Release, Task
from gfpet.errors import DataError, nearest

EMBEDDED_TRAIN = 2000
EMBEDDED_EVAL = 500


@dataclass(frozen=True)
class RawSplit:
    """One split from a source."""

    rows: tuple[RawRow, ...]
    name: str
    """File or split name at the source."""
    sha256: str
    """SHA-256 of the source file's bytes, or of the rows as canonical JSON if there is no such file."""


@dataclass(frozen=True)
class Source:
    """The labelled splits of one task, and their provenance."""

    kind: str
    """`directory`, `hub`, `embedded`, or `files` (a user's task)."""
    id: str
    """The folder, the hub data set, `gfpet.synthetic`, or the task file."""
    revision: str | None
    """Commit of the hub data set, or seed of the synthetic benchmark; None for files, which have hashes."""
    train: RawSplit
    val: RawSplit
    notes: tuple[str, ...] = ()
    """Notes for the user."""

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}" if self.revision else self.id


def read_directory(task: Task, root: str | Path) -> Source:
    """Rows of `<root>/<Task>/{train,val}.jsonl`, the layout of the official release.

    A line that is not UTF-8 or not JSON gives a row with a problem.

    Raises:
        DataError: a folder or file is missing; lists what is there instead.
    """
    release = _release(task)
    root = Path(root).expanduser()
    splits = {}
    for split, file in (("train", release.train), ("val", release.eval)):
        name = f"{release.folder}/{file}"
        path = root / name
        if not path.is_file():
            raise DataError(_missing(root, release, path))
        data = path.read_bytes()
        splits[split] = RawSplit(tuple(json_lines(path, data)), name, hashlib.sha256(data).hexdigest())
    return Source("directory", str(root), None, splits["train"], splits["val"])


def read_hub(task: Task, hub_id: str, revision: str) -> Source:
    """Rows of a data set in the form of `aps/super_glue` (one configuration per task, integer labels, flat rows).

    Args:
        hub_id: name on the hub, or a local folder of the same form.
        revision: commit of the data set; unused for a local folder.

    Raises:
        DataError: the data set cannot be loaded, or lacks columns.
    """
    import datasets
    from datasets.exceptions import DatasetsError

    hub = _release(task).hub
    splits = {}
    for split, hub_split in (("train", hub.train), ("val", hub.eval)):
        name = f"{hub.config}/{hub_split}"
        try:
            table = datasets.load_dataset(hub_id, hub.config, split=hub_split, revision=revision)
        except (OSError, ValueError, DatasetsError) as error:
            raise DataError(
                f"cannot load {name} of data set '{hub_id}' at revision {revision}: {type(error).__name__}: {error}\n"
                "Check prepare.hub_id, prepare.hub_revision and the network, or use prepare.source 'directory' "
                "(a folder of the official release) or 'embedded'."
            ) from error
        rows = tuple(from_hub(task, f"{hub_id}@{revision}/{name}", table.column_names, table))
        splits[split] = RawSplit(rows, name, rows_digest(row.value for row in rows))
    return Source("hub", hub_id, revision, splits["train"], splits["val"])


def from_hub(task: Task, name: str, columns: Sequence[str], rows: Iterable[Flat]) -> Iterator[RawRow]:
    """Convert rows of one hub split to the form of the release.

    A row's origin is `<name>:<number of its first row on the hub>`.

    Raises:
        DataError: columns are missing.
    """
    form = FORMATS[task.rows]
    absent = [column for column in form.hub_columns(task) if column not in columns]
    if absent:
        raise DataError(
            f"{name}: columns {absent} are missing; found {list(columns)}. "
            "The source 'hub' needs a data set in the form of aps/super_glue."
        )
    return form.from_hub(task, name, enumerate(rows, start=1))


def generate_embedded(
    task: Task, seed: int, train_size: int | None = None, dev_size: int = 200, eval_size: int | None = None
) -> Source:
    """Rows of the synthetic benchmark, as many as the sizes need (a MultiRC row holds several examples).

    Args:
        seed: draws the rows.
        train_size: examples to train on; None takes 2000, because a generator has no "all".
        dev_size: examples to hold out; makes enough rows that this is at most a fifth.
        eval_size: examples to evaluate on; None takes 500.

    Raises:
        DataError: the synthetic benchmark has no such task.
    """
    from gfpet.synthetic import generate

    name = _release(task).synthetic
    train = max((train_size or EMBEDDED_TRAIN) + dev_size, math.ceil(dev_size / DEV_PART))
    splits = {}
    for split, values in zip(("train", "val"), generate(name, seed, train, eval_size or EMBEDDED_EVAL), strict=True):
        rows = tuple(RawRow(f"world/{name}/{split}:{line}", value) for line, value in enumerate(values, start=1))
        splits[split] = RawSplit(rows, f"{name}/{split}", rows_digest(values))
    return Source("embedded", "gfpet.synthetic", f"seed {seed}", splits["train"], splits["val"])


def rows_digest(rows: Iterable[object]) -> str:
    """SHA-256 of rows as JSON lines with sorted keys."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode("ascii") + b"\n")
    return digest.hexdigest()


def _release(task: Task) -> Release:
    if task.release is None:
        raise DataError(f"task '{task.name}' has files of its own ('data' in its task file) and no 'release'.")
    return task.release


def _missing(root: Path, release: Release, path: Path) -> str:
    if not root.is_dir():
        return f"prepare.directory: there is no folder {root}; name the folder that holds {_folders()}."
    if path.parent.is_dir():
        found: Sequence[str] = sorted(entry.name for entry in path.parent.iterdir())
        return (
            f"{path} is missing; {path.parent} holds {', '.join(found) or 'nothing'}, "
            f"but needs {release.train}, {release.eval}."
        )
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    guess = nearest(release.folder, found)
    hint = f" (is '{guess}' meant? Rename it)" if guess else ""
    return f"{path} is missing: {root} has no folder {release.folder}{hint}. The official release has {_folders()}."


def _folders() -> str:
    return ", ".join(task.release.folder for task in shipped_tasks().values() if task.release)
