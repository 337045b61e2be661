"""Shared by all tests: environment variables, test groups for pytest-xdist, and fixtures made once per session.

Prefect, MLflow and DVC read their variables on first import, so they are set here and not in a fixture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

_PROJECT = Path(__file__).parents[1]
_HOME = Path(tempfile.mkdtemp(prefix="gfpet-tests-"))

os.environ |= {
    "PREFECT_HOME": str(_HOME / "prefect"),
    "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(_HOME / "prefect-results"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's console handler keeps the first test's stream, which is closed later; caplog still gets all records.
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_PROFILES_PATH": str(_HOME / "prefect" / "profiles.toml"),
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_SITE_CACHE_DIR": str(_HOME / "dvc-target"),
    "DVC_GLOBAL_CONFIG_DIR": str(_HOME / "dvc-global"),
    "DVC_SYSTEM_CONFIG_DIR": str(_HOME / "dvc-system"),
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    # One thread per process: tiny models gain nothing from more, and the workers share the cores.
    "OMP_NUM_THREADS": "1",
}
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_PROFILE", "GFPET_PARENT_RUN"):
    os.environ.pop(_name, None)

# Real data, if present: in the variable's folder, or in a folder `shared` beside the project.
for _name, _folder in (("GFPET_SUPERGLUE", "superglue"), ("GFPET_TEXT_TASKS", "text_tasks")):
    if (_PROJECT.parent / "shared" / _folder).is_dir():
        os.environ.setdefault(_name, str(_PROJECT.parent / "shared" / _folder))

_GROUPS = {
    "tests/team/": "team",
    "tests/flows/test_cli.py": "prefect",
    "tests/flows/test_devices.py": "prefect",
    "tests/flows/test_reproduce.py": "prefect",
    "tests/synthetic/test_benchmark.py": "benchmark",
    "tests/synthetic/test_pretrain.py": "pretrained",
    "tests/synthetic/test_prose.py": "prose",
    "tests/synthetic/test_spans.py": "spans",
}
"""Start of a test's path → group. A group shares servers or other costly fixtures, so one worker of pytest-xdist runs
all of it. Every other test goes to any free worker."""

_UNCHECKED = (
    "estimate/test_against_measurement.py",
    "flows/",
    "similarity/test_stages.py",
    "stages/",
    "team/",
    "tracking/",
)
"""Tests of whole stages and pipelines. They do not check shapes in signatures, which takes three times as long as the
work itself; the tests of the called functions check them."""


def _group_of(nodeid: str) -> str:
    """The group of a test; a test outside of all groups is its own group."""
    return next((group for start, group in _GROUPS.items() if nodeid.startswith(start)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep each group on one worker. The marker `xdist_group` of pytest-xdist 3.8 has no effect under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group_of(nodeid)

    return Groups(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that all workers end at about the same time."""
    first = {"team": 0, "prefect": 1}
    items.sort(key=lambda item: first.get(_group_of(item.nodeid), 2 if item.get_closest_marker("slow") else 3))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Disable shape checks during a test of `_UNCHECKED` and its fixtures."""
    before = jaxtyping.config.jaxtyping_disable
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    jaxtyping.config.update("jaxtyping_disable", before or path.startswith(_UNCHECKED))
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite database without runs, to copy: MLflow takes seconds to create one."""
    from gfpet.tracking.store import Store
    from tests.once import made_once

    def make(folder: Path) -> None:
        Store(folder)

    return made_once(tmp_path_factory, "empty-store", make) / "mlflow.db"
