"""The common form of all tasks: a context, candidates that may follow it, and the right candidates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from gfpet.errors import DataError


@dataclass(frozen=True)
class Example:
    """One question to a model.

    A model scores each candidate by its mean log-likelihood after the context, and predicts the highest-scoring one.
    Verbalizer tasks (BoolQ, CB, MultiRC, RTE, WiC) have the same candidates in every example; ranking tasks (COPA,
    ReCoRD, WSC) have different ones in each.
    """

    id: str
    """Stable and unique within its task, e.g. `cb/val/17`, `multirc/val/3/12/57`."""
    context: str
    """The text before the candidates."""
    candidates: tuple[str, ...]
    """At least two continuations, each with the white space between it and the context."""
    labels: tuple[str, ...]
    """The meaning of each candidate: a class name, a choice, a span, an entity."""
    gold: tuple[int, ...]
    """Indices of the right candidates, at least one."""
    group: str = ""
    """Group of examples that metrics treat together (in MultiRC, a question); empty if the example is its own group."""

    def __post_init__(self) -> None:
        if len(self.candidates) < 2 or len(self.candidates) != len(self.labels):
            raise DataError(
                f"example {self.id}: {len(self.candidates)} candidates and {len(self.labels)} labels; "
                "it needs at least two candidates and a label for each."
            )
        if not self.gold or not all(0 <= index < len(self.candidates) for index in self.gold):
            raise DataError(
                f"example {self.id}: gold {list(self.gold)} must name at least one of the candidates "
                f"0 to {len(self.candidates) - 1}."
            )


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write JSON lines; returns the number of examples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for example in examples:
            out.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_examples(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises:
        DataError: the file is missing, or a line is not an example; names file and line.
    """
    if not path.exists():
        raise DataError(f"no examples at {path}; run the stage 'prepare' first (dvc repro prepare).")
    return list(_parse(path))


def _parse(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                yield Example(
                    id=row["id"],
                    context=row["context"],
                    candidates=tuple(row["candidates"]),
                    labels=tuple(row["labels"]),
                    gold=tuple(row["gold"]),
                    group=row["group"],
                )
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{path}:{number}: not an example ({error}); run the stage 'prepare' again.") from error
