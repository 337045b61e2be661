"""A project folder with a tracking store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.projects import default_project


@pytest.fixture
def fresh_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default `params.yaml` in an empty folder, which is the current one; no store yet."""
    return default_project(tmp_path, monkeypatch)


@pytest.fixture
def project(fresh_project: Path, empty_store: Path) -> Path:
    """`fresh_project` with an empty SQLite store."""
    shutil.copy(empty_store, fresh_project)
    return fresh_project
