"""From rows to files: their content, and that it is reproducible."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gfpet.data import (
    BrokenRowsError,
    find_task,
    generate_embedded,
    prepare_task,
    read_directory,
    read_examples,
    shipped_tasks,
)
from gfpet.data.sources import Source

from .conftest import Rows

SIZES = {"train_size": 40, "dev_size": 10, "eval_size": 20, "seed": 0}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_manifest_says_where_everything_is_from(release: Callable[[Rows], Path], rows: Rows, tmp_path: Path) -> None:
    root = release({"multirc": rows["multirc"]})
    data = (root / "MultiRC" / "train.jsonl").read_bytes()
    manifest = prepare_task(find_task("multirc"), read_directory(find_task("multirc"), root), tmp_path / "out", **SIZES)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    source = {"rows": 2, "examples": 6, "sha256": hashlib.sha256(data).hexdigest()}
    assert manifest["source"] == {
        "kind": "directory",
        "id": str(root),
        "revision": None,
        "splits": {
            "train": {"name": "MultiRC/train.jsonl", **source},
            "val": {"name": "MultiRC/val.jsonl", **source},
        },
    }
    assert (manifest["task"], manifest["metrics"], manifest["prompt_version"]) == ("multirc", ["f1a", "em"], 1)
    assert (manifest["seed"], manifest["requested"]) == (0, {"train": 40, "dev": 10, "eval": 20})
    assert len(manifest["notes"]) == 3
    assert list(_files(tmp_path / "out")) == ["dev.jsonl", "eval.jsonl", "manifest.json", "train.jsonl"]
    for split, written in manifest["splits"].items():
        path = tmp_path / "out" / written["file"]
        examples = read_examples(path)
        assert len(examples) == written["examples"], split
        assert len({example.group for example in examples}) == written["groups"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == written["sha256"]
    total = manifest["splits"]["train"]["examples"] + manifest["splits"]["dev"]["examples"]
    assert (total, manifest["splits"]["eval"]["examples"]) == (6, 6)


def test_broken_rows_of_both_splits_stop_it(release: Callable[[Rows], Path], rows: Rows, tmp_path: Path) -> None:
    rows["copa"][1]["label"] = None
    root = release({"copa": rows["copa"]})
    with pytest.raises(BrokenRowsError) as caught:
        prepare_task(find_task("copa"), read_directory(find_task("copa"), root), tmp_path / "out", **SIZES)
    assert [row.origin for row in caught.value.rows] == [f"{root}/COPA/{split}.jsonl:2" for split in ("train", "val")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", list(shipped_tasks()))
def test_the_generated_benchmark_becomes_examples_the_same_each_time(task: str, tmp_path: Path) -> None:
    def source() -> Source:
        return generate_embedded(find_task(task), 0, SIZES["train_size"], SIZES["dev_size"], SIZES["eval_size"])

    manifest = prepare_task(find_task(task), source(), tmp_path / "first", **SIZES)
    prepare_task(find_task(task), source(), tmp_path / "second", **SIZES)
    assert _files(tmp_path / "first") == _files(tmp_path / "second")
    counts = {split: written["examples"] for split, written in manifest["splits"].items()}
    assert counts["train"] >= 40
    assert counts["dev"] >= 10
    assert counts["eval"] >= 20
    assert manifest["notes"] == []
    train = read_examples(tmp_path / "first" / "train.jsonl")
    assert len({example.gold for example in train}) > 1
