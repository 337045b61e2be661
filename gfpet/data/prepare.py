"""Turns one task's rows into three files of examples and a manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from gfpet.data.build import build_examples
from gfpet.data.checks import check_rows
from gfpet.data.examples import Example, write_examples
from gfpet.data.rows import BrokenRowsError
from gfpet.data.sampling import Splits, split_examples
from gfpet.data.sources import RawSplit, Source
from gfpet.data.task import Task

MANIFEST = "manifest.json"


def prepare_task(
    task: Task,
    source: Source,
    output: Path,
    *,
    train_size: int | None,
    dev_size: int,
    eval_size: int | None,
    seed: int,
) -> dict[str, Any]:
    """Check a task's rows, build and sample its examples, write `{train,dev,eval}.jsonl` and `manifest.json`.

    The same source and arguments give the same bytes.

    Args:
        output: the task's folder; made if missing.
        train_size: number of training examples; see `split_examples`, also for `dev_size`, `eval_size` and `seed`.

    Returns:
        The manifest: counts, hashes, source and revision, seed, the task's version, notes on the source and on sizes
        that were not reached.

    Raises:
        BrokenRowsError: either split has broken rows; the error lists all of them.
        DataError: too few rows.
    """
    train, train_broken = check_rows(task, source.train.rows)
    evaluation, eval_broken = check_rows(task, source.val.rows)
    if train_broken or eval_broken:
        raise BrokenRowsError([*train_broken, *eval_broken])
    available = {"train": build_examples(task, "train", train), "val": build_examples(task, "val", evaluation)}
    splits = split_examples(
        available["train"],
        available["val"],
        train_size=train_size,
        dev_size=dev_size,
        eval_size=eval_size,
        seed=seed,
    )
    manifest = {
        "task": task.name,
        "metrics": list(task.metrics),
        "source": {
            "kind": source.kind,
            "id": source.id,
            "revision": source.revision,
            "splits": {
                "train": _origin(source.train, available["train"]),
                "val": _origin(source.val, available["val"]),
            },
        },
        "prompt_version": task.version,
        "seed": seed,
        "requested": {"train": train_size, "dev": dev_size, "eval": eval_size},
        "splits": _write(output, splits),
        "notes": [*source.notes, *splits.notes],
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (output / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def _origin(split: RawSplit, examples: list[Example]) -> dict[str, object]:
    return {"name": split.name, "rows": len(split.rows), "examples": len(examples), "sha256": split.sha256}


def _write(output: Path, splits: Splits) -> dict[str, dict[str, object]]:
    written: dict[str, dict[str, object]] = {}
    for name, examples in (("train", splits.train), ("dev", splits.dev), ("eval", splits.eval)):
        path = output / f"{name}.jsonl"
        write_examples(path, examples)
        written[name] = {
            "file": path.name,
            "from": "val" if name == "eval" else "train",
            "examples": len(examples),
            "groups": len({example.group or example.id for example in examples}),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    return written
