"""Folders that are made once per session and copied by tests, also with several workers of pytest-xdist."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.projects import VARIABLES


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder made by the first worker that asks for it; the others wait.

    Args:
        factory: pytest's factory of temporary folders.
        name: name of the folder.
        make: fills the empty folder; called with it as the current folder, and without tracking variables.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    with FileLock(shared / f"{name}.lock"):
        if not folder.exists():
            making = factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                for variable in VARIABLES:
                    patch.delenv(variable, raising=False)
                patch.chdir(making)
                make(making)
            making.rename(folder)
    return folder
