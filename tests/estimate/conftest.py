"""A project folder to run stages in, as the tests of stages have it."""

from __future__ import annotations

from tests.stages.conftest import project

__all__ = ["project"]
