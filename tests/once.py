"""Folders that are made once per session and copied by tests, also where several workers of pytest-xdist run it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.projects import VARIABLES


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker to ask makes, while the others wait.

    Args:
        factory: pytest's own.
        name: of the folder.
        make: fills an empty folder, which is the current one while it runs; no tracking variable is set then.
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
