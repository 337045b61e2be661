"""Folders of real data for tests; tests without their data are skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def real_folder(name: str, variable: str, what: str) -> Path:
    """A folder of real data: from the variable, or in `shared/` beside the project; without it the test is skipped."""
    given = os.environ.get(variable)
    folder = Path(given) if given else PROJECT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"needs {what}: set {variable} to its folder, or put it in ../shared/{name}")
    return folder


def superglue_folder() -> Path:
    """The official SuperGLUE release."""
    return real_folder("superglue", "GFPET_SUPERGLUE", "the SuperGLUE release (BoolQ, CB, ... in it)")


def text_tasks_folder() -> Path:
    """Real classification data: `polarity.jsonl`, `questions-train.jsonl`, `questions-test.jsonl`."""
    return real_folder("text_tasks", "GFPET_TEXT_TASKS", "real text tasks (polarity.jsonl, questions-train.jsonl)")
