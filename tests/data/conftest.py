"""Rows of all eight tasks in the form of the SuperGLUE release, and folders and hub data sets made from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gfpet.data import RawRow, shipped_tasks
from tests.real_data import superglue_folder, text_tasks_folder

Rows = dict[str, list[dict[str, Any]]]


def release_rows() -> Rows:
    """Two rows per task, which cover all corner cases of the prompts."""
    return {
        "boolq": [
            {"idx": 0, "passage": "Tea is hot.", "question": "is tea hot", "label": True},
            {"idx": 1, "passage": "Tea\u2028is cold.", "question": "is tea hot?", "label": False},
        ],
        "cb": [
            {"idx": 0, "premise": "He left.", "hypothesis": "he left.", "label": "entailment"},
            {"idx": 1, "premise": "He left.", "hypothesis": "she left", "label": "neutral"},
        ],
        "copa": [
            _copa(0, "cause", 0),
            _copa(1, "effect", 1),
        ],
        "multirc": [
            {
                "idx": 3,
                "version": 1.1,
                "passage": {"text": "A. B.", "questions": [_question(12, [1, 0]), _question(13, [0])]},
            },
            {"idx": 4, "version": 1.1, "passage": {"text": "C. D.", "questions": [_question(14, [0, 1, 1])]}},
        ],
        "record": [
            _record(5, "Long live @placeholder.'", ["bob ray"]),
            _record(6, "@placeholder met them", ["CNN", "Bob Ray"]),
        ],
        "rte": [
            {"idx": 0, "premise": "He left.", "hypothesis": "He left.", "label": "entailment"},
            {"idx": 1, "premise": "He left.", "hypothesis": "She left.", "label": "not_entailment"},
        ],
        "wic": [
            _wic(0, True),
            _wic(1, False),
        ],
        "wsc": [
            _wsc(0, True),
            _wsc(1, False),
        ],
    }


def _copa(idx: int, question: str, label: int) -> dict[str, Any]:
    choices = {"choice1": "The sun rose.", "choice2": "Grass was cut."}
    return {"idx": idx, "premise": "My body cast a shadow.", **choices, "question": question, "label": label}


def _question(idx: int, labels: Sequence[int]) -> dict[str, Any]:
    answers = [{"idx": 10 * idx + at, "text": f"answer {at}", "label": label} for at, label in enumerate(labels)]
    return {"idx": idx, "question": f"Which {idx}?", "answers": answers}


def _record(idx: int, query: str, answers: Sequence[str]) -> dict[str, Any]:
    text = "CNN says Bob Ray met Bob Ray and Ann."
    entities = [
        {"start": text.index(name), "end": text.index(name) + len(name) - 1} for name in ("CNN", "Bob Ray", "Ann")
    ]
    entities.insert(2, {"start": 21, "end": 27})
    given = [{"start": 9, "end": 15, "text": answer} for answer in answers]
    qas = [{"idx": 100 + idx, "query": query, "answers": given}]
    return {"idx": idx, "source": "test", "passage": {"text": text, "entities": entities}, "qas": qas}


def _wic(idx: int, label: bool) -> dict[str, Any]:
    sentences = {"sentence1": "A place here.", "sentence2": "No place."}
    offsets = {"start1": 2, "end1": 7, "start2": 3, "end2": 8}
    return {"idx": idx, "word": "place", **sentences, **offsets, "label": label, "version": 1.1}


def _wsc(idx: int, label: bool) -> dict[str, Any]:
    text = "Mark told Pete's aunt many lies, which Mr. Poe put in the book. He should have been more careful."
    target = {"span1_index": 0, "span1_text": "Mark", "span2_index": 13, "span2_text": "He"}
    return {"idx": idx, "text": text, "target": target, "label": label}


def raw(rows: Sequence[object]) -> list[RawRow]:
    """Rows as returned by a source."""
    return [RawRow(f"rows.jsonl:{line}", row) for line, row in enumerate(rows, start=1)]


def write_release(root: Path, rows: Mapping[str, Sequence[object]]) -> Path:
    """Write the release's folder layout, with the same rows in both splits."""
    for task, values in rows.items():
        release = shipped_tasks()[task].release
        assert release
        folder = root / release.folder
        folder.mkdir(parents=True, exist_ok=True)
        for split in ("train", "val"):
            lines = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return root


@pytest.fixture
def rows() -> Rows:
    return release_rows()


@pytest.fixture
def release(tmp_path: Path) -> Callable[[Mapping[str, Sequence[object]]], Path]:
    """A function that writes rows as a release folder."""
    return lambda values: write_release(tmp_path / "superglue", values)


@pytest.fixture(scope="session")
def superglue() -> Path:
    """Folder of the real SuperGLUE; skips the test without it."""
    return superglue_folder()


@pytest.fixture(scope="session")
def text_tasks() -> Path:
    """Folder of real classification data; skips the test without it."""
    return text_tasks_folder()
