"""The hub's flat form, loaded by `datasets` from a local folder with the layout of aps/super_glue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gfpet.data import build_examples, check_rows, find_task, from_hub, read_directory, read_hub
from gfpet.data.sources import Source
from gfpet.errors import DataError

from .conftest import Rows, release_rows, write_release

TASK_LABELS = {"cb": ["entailment", "contradiction", "neutral"], "rte": ["entailment", "not_entailment"]}


def flat_rows(task: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of the release in the hub's form (after datasets/super_glue/super_glue.py of huggingface/datasets)."""
    if task == "multirc":
        return [
            {
                "paragraph": row["passage"]["text"],
                "question": question["question"],
                "answer": answer["text"],
                "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
                "label": answer["label"],
            }
            for question in row["passage"]["questions"]
            for answer in question["answers"]
        ]
    if task == "record":
        text = row["passage"]["text"]
        spans = [
            (text[span["start"] : span["end"] + 1], span["start"], span["end"] + 1)
            for span in row["passage"]["entities"]
        ]
        columns = {key: [span[at] for span in spans] for at, key in enumerate(("text", "start", "end"))}
        return [
            {
                "passage": text,
                "query": query["query"],
                "entities": sorted({span[0] for span in spans}),
                "entity_spans": columns,
                "answers": sorted({answer["text"] for answer in query["answers"]}),
                "idx": {"passage": row["idx"], "query": query["idx"]},
            }
            for query in row["qas"]
        ]
    label = row["label"]
    flat = {**row, "label": TASK_LABELS[task].index(label) if task in TASK_LABELS else int(label)}
    flat.update(flat.pop("target", {}))
    flat.pop("version", None)
    return [flat]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with parquet files and a card with the configurations, as on the hub."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "super_glue"
    configs = []
    for task, rows in release_rows().items():
        for split in ("train", "validation"):
            path = root / task / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            flat = [part for row in rows for part in flat_rows(task, row)]
            datasets.Dataset.from_list(flat).to_parquet(path)
        files = [{"split": split, "path": f"{task}/{split}-*"} for split in ("train", "validation")]
        configs.append({"config_name": task, "data_files": files})
    (root / "README.md").write_text(f"---\n{json.dumps({'configs': configs})}\n---\n", encoding="utf-8")
    return root


def _examples(task: str, source: Source) -> list[object]:
    checked, broken = check_rows(find_task(task), source.train.rows)
    assert broken == []
    return [
        (example.id, example.context, example.candidates, example.gold)
        for example in build_examples(find_task(task), "train", checked)
    ]


def test_hub_gives_the_same_examples_as_the_release(hub: Path, tmp_path: Path, rows: Rows) -> None:
    root = write_release(tmp_path / "release", rows)
    for task in rows:
        source = read_hub(find_task(task), str(hub), "main")
        assert _examples(task, source) == _examples(task, read_directory(find_task(task), root)), task
        assert (source.kind, source.revision) == ("hub", "main")
        assert source.train.rows[0].origin == f"{hub}@main/{task}/train:1"


def test_entities_are_found_in_the_text_where_offsets_are_absent(rows: Rows) -> None:
    flat = flat_rows("record", rows["record"][0])[0]
    del flat["entity_spans"]
    (row,) = from_hub(find_task("record"), "hub", list(flat), [flat])
    checked, broken = check_rows(find_task("record"), [row])
    assert broken == []
    assert build_examples(find_task("record"), "val", checked)[0].labels == ("CNN", "Bob Ray", "Ann")

    (absent,) = from_hub(find_task("record"), "hub", list(flat), [{**flat, "entities": ["CNN", "Zed"]}])
    assert absent.problem == "entities ['Zed'] are not in the passage"


@pytest.mark.parametrize("label", [-1, 3, None])
def test_an_unlabelled_row_is_broken(rows: Rows, label: int | None) -> None:
    flat = {**flat_rows("cb", rows["cb"][0])[0], "label": label}
    _, broken = check_rows(find_task("cb"), from_hub(find_task("cb"), "hub", list(flat), [flat]))
    assert [row.origin for row in broken] == ["hub:1"]
    assert broken[0].reasons[0].startswith("label: ")


def test_two_texts_for_one_paragraph_are_a_problem(rows: Rows) -> None:
    flat = flat_rows("multirc", rows["multirc"][0])
    flat[1]["paragraph"] = "Another."
    (row,) = from_hub(find_task("multirc"), "hub", list(flat[0]), flat)
    assert row.problem == "paragraph 3 or its question 12 has another text at hub:2"


def test_other_columns_are_named() -> None:
    with pytest.raises(DataError, match=r"columns \['idx', 'label'\] are missing; found \['premise', 'hypothesis'\]"):
        from_hub(find_task("rte"), "hub", ["premise", "hypothesis"], [])


def test_what_cannot_be_loaded_says_what_to_do(hub: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot load cb/train of data set '.*nowhere' at revision abc[^$]*prepare.hub_id"
    ):
        read_hub(find_task("cb"), str(hub / "nowhere"), "abc")
