"""Data files of a user's task: JSON lines, CSV, TSV or parquet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from gfpet.data.formats.flat import IDX, columns
from gfpet.data.json_lines import json_lines
from gfpet.data.rows import RawRow
from gfpet.data.sources import RawSplit, Source
from gfpet.data.task import Files, Task
from gfpet.errors import DataError, nearest

EVAL_PART = 0.2
_TRAIN, _VAL = "train", "val"


def read_files(task: Task, task_file: Path) -> Source:
    """Rows of a task's own data files; their paths are relative to the task file.

    If the task file has no `data.eval`, the seed draws a part of the `train` rows for evaluation. Rows with the same
    texts, and rows of the same group, stay on the same side.

    Raises:
        DataError: a file is missing, has another format, or lacks columns; or there are too few rows to draw from.
    """
    files = task.data
    if files is None:
        raise DataError(f"{task_file}: task '{task.name}' has no 'data'; its rows come from prepare.source.")
    names = {_TRAIN: files.train, _VAL: files.eval or files.train}
    read = {name: _read(task, task_file, name) for name in dict.fromkeys(names.values())}
    rows = {split: read[name][0] for split, name in names.items()}
    if files.eval is None:
        rows[_TRAIN], rows[_VAL] = _drawn(task, files, rows[_TRAIN])
    splits = {split: RawSplit(tuple(rows[split]), name, read[name][1]) for split, name in names.items()}
    outside = [name for name in read if Path(name).is_absolute() or ".." in Path(name).parts]
    notes = [f"{name} is not in the folder of the task file: DVC does not see its changes" for name in outside]
    return Source("files", task_file.as_posix(), None, splits[_TRAIN], splits[_VAL], tuple(notes))


def _read(task: Task, task_file: Path, name: str) -> tuple[list[RawRow], str]:
    path = task_file.parent / name
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{task_file}: data file '{name}' has no known ending; allowed: {', '.join(_READERS)}.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{task_file}: data file '{name}' cannot be read ({error.strerror}): {path}. "
            "A path is relative to the task file."
        ) from error
    rows = [_numbered(at, row) for at, row in enumerate(_READERS[path.suffix.lower()](path, data), start=1)]
    if not rows:
        raise DataError(f"{path} has no rows.")
    _require_columns(task, task_file, path, rows)
    return rows, hashlib.sha256(data).hexdigest()


def _numbered(at: int, row: RawRow) -> RawRow:
    value = {**row.value, IDX: at} if isinstance(row.value, dict) else row.value
    return RawRow(row.origin, value, row.problem)


def _require_columns(task: Task, task_file: Path, path: Path, rows: list[RawRow]) -> None:
    """Report a column that no row has once, as an error in the task file, not once per row."""
    tables = [row.value for row in rows if isinstance(row.value, dict)]
    found = list(dict.fromkeys(str(name) for value in tables for name in value if name != IDX))
    for name in columns(task) if tables else ():
        if name != IDX and name not in found:
            close = nearest(name, found)
            hint = f"; is '{close}' meant?" if close else "."
            raise DataError(
                f"{path} has no column '{name}', which {task_file} names{hint} "
                f"Found: {', '.join(found) or 'none'}. Correct the task file or the data."
            )


def _drawn(task: Task, files: Files, rows: list[RawRow]) -> tuple[list[RawRow], list[RawRow]]:
    """Draw the training rows and the evaluation rows, each in the order of the file."""
    keys = [_key(task, row) for row in rows]
    order = sorted(set(keys))
    random.Random(f"eval/{files.seed}").shuffle(order)
    part = EVAL_PART if files.eval_part is None else files.eval_part
    count = round(part * len(order))
    if not 0 < count < len(order):
        raise DataError(
            f"{files.train}: {len(order)} different rows or groups, of which a part of {part} is to be evaluated on; "
            "that leaves nothing on one side. Give more rows, another 'eval_part', or a file as 'eval'."
        )
    held = set(order[:count])
    sides: tuple[list[RawRow], list[RawRow]] = ([], [])
    for key, row in zip(keys, rows, strict=True):
        sides[key in held].append(row)
    return sides


def _key(task: Task, row: RawRow) -> str:
    value: Mapping[str, object] = row.value if isinstance(row.value, dict) else {}
    names = [task.group] if task.group else [name for name in columns(task) if name not in (task.label, IDX)]
    return json.dumps([value.get(name) for name in names], default=str)


def _json_lines(path: Path, data: bytes) -> Iterator[RawRow]:
    return json_lines(path, data.removeprefix(b"\xef\xbb\xbf"))


def _table(delimiter: str) -> Callable[[Path, bytes], Iterator[RawRow]]:
    def rows(path: Path, data: bytes) -> Iterator[RawRow]:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{path}:{line}: not UTF-8: byte 0x{data[error.start]:02x}; save the file as UTF-8."
            ) from error
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        start = 1
        try:
            for cells in reader:
                origin, start = f"{path}:{start}", reader.line_num + 1
                if header is None:
                    header = cells
                    _require_header(origin, header)
                elif not cells:
                    yield RawRow(origin, None, "an empty line")
                elif len(cells) != len(header):
                    yield RawRow(origin, None, f"{len(cells)} cells, but the first line has {len(header)}")
                else:
                    yield RawRow(origin, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(
                f"{path}:{start}: not a table: {error}; a cell with quotes in it needs them doubled."
            ) from error

    return rows


def _require_header(origin: str, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{origin}: the first line names columns twice: {', '.join(twice)}; give each another name.")


def _parquet(path: Path, data: bytes) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a parquet file: {type(error).__name__}: {error}") from error
    return (RawRow(f"{path}:{number}", row) for number, row in enumerate(rows, start=1))


_READERS: Mapping[str, Callable[[Path, bytes], Iterator[RawRow]]] = {
    ".jsonl": _json_lines, ".csv": _table(","), ".tsv": _table("\t"), ".parquet": _parquet,
}  # fmt: skip
