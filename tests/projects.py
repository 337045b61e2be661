"""Project folders to run stages in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfpet.config import apply_preset

ROOT = Path(__file__).parents[1]
VARIABLES = ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN", "MLFLOW_TRACKING_URI")
"""Variables that DVC and `gfpet run` set for a stage. Without them, tracking uses the project's own SQLite file."""


def default_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the default `params.yaml` to a folder, and make it the current one."""
    (folder / "presets").mkdir()
    (folder / "presets" / "quick.yaml").write_text("{}\n")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset("quick", [], folder / "params.yaml")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder
