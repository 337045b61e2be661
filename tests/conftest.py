"""Every service that the tests start keeps its files in one temporary folder, so that no test sees this machine's own.

Prefect, MLflow and DVC read these variables when they are first imported, hence not in a fixture.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_HOME = Path(tempfile.mkdtemp(prefix="gfpet-tests-"))

os.environ |= {
    "PREFECT_HOME": str(_HOME / "prefect"),
    "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(_HOME / "prefect-results"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Its console handler keeps the stream of the test that came first, which is closed by then; caplog sees everything.
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
}
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "PREFECT_PROFILE", "GFPET_PARENT_RUN"):
    os.environ.pop(_name, None)


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)
