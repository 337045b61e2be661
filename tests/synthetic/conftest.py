"""Fixtures for the tests of the synthetic benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real_data import superglue_folder


@pytest.fixture(scope="session")
def superglue() -> Path:
    """Folder of the real SuperGLUE; skips the test without it."""
    return superglue_folder()
