"""A project folder to run stages in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfpet.config import apply_preset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default `params.yaml` in an empty folder, which is the current one; tracking goes to its own SQLite file."""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "quick.yaml").write_text("{}\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset("quick", [], tmp_path / "params.yaml")
    for name in ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
