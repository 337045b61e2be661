"""What the world's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def superglue() -> Path:
    """The folder of the official release, where the machine has one."""
    folder = os.environ.get("GFPET_SUPERGLUE")
    if not folder or not Path(folder).is_dir():
        pytest.skip("GFPET_SUPERGLUE names no folder with the SuperGLUE release")
    return Path(folder)
