"""A project folder with a tracking store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gfpet.config import apply_preset
from gfpet.tracking.store import Store

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN", "MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has set up, which takes it seconds each time."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        Store(folder)
    return folder / "mlflow.db"


@pytest.fixture
def fresh_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default `params.yaml` in an empty folder, which is the current one; no store yet."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "quick.yaml").write_text("{}\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset("quick", [], tmp_path / "params.yaml")
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(fresh_project: Path, empty_store: Path) -> Path:
    """`fresh_project` with an empty SQLite store."""
    shutil.copy(empty_store, fresh_project)
    return fresh_project
