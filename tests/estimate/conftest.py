"""The project folder of the stage tests."""

from __future__ import annotations

from tests.stages.conftest import project

__all__ = ["project"]
