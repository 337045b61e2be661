"""A project folder to run stages in, and one in which all stages have run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.once import made_once
from tests.projects import default_project
from tests.stages.tiny_pipeline import ORDER, make_project, run_stage


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """A folder with the default `params.yaml`, which is the current one; tracking uses its own SQLite file."""
    shutil.copy(empty_store, tmp_path)
    return default_project(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project of tiny GPT-2 models in which every stage has run, with all kinds on two tasks.

    Made once per session. Tests read it, or copy from it with `start_from`.
    """

    def make(folder: Path) -> None:
        shutil.copy(empty_store, folder)
        make_project(folder, "reference.methods=[full, lora, adapter, prefix]")
        torch.manual_seed(1)
        for stage in ORDER:
            run_stage(*stage)

    return made_once(tmp_path_factory, "finished", make)
