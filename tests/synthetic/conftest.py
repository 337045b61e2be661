"""What the tests of the synthetic benchmark share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_data import superglue_folder


@pytest.fixture(scope="session")
def superglue() -> Path:
    """The real SuperGLUE, where this machine has it."""
    return superglue_folder()
