"""Project folders to run stages in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfpet.config import apply_preset

ROOT = Path(__file__).parents[1]
VARIABLES = ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN", "MLFLOW_TRACKING_URI")
"""What DVC and `gfpet run` set for a stage; without them tracking goes to the project's own SQLite file."""


def default_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default `params.yaml` in a folder, which becomes the current one."""
    (folder / "presets").mkdir()
    (folder / "presets" / "quick.yaml").write_text("{}\n")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset("quick", [], folder / "params.yaml")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder
