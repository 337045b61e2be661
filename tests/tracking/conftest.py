"""A project folder with its own tracking store."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.projects import default_project


@pytest.fixture
def fresh_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with only the default `params.yaml`, which is the current one; it has no store yet."""
    return default_project(tmp_path, monkeypatch)


@pytest.fixture
def project(fresh_project: Path, empty_store: Path) -> Path:
    """`fresh_project` with an empty SQLite store."""
    shutil.copy(empty_store, fresh_project)
    return fresh_project
