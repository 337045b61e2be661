"""Prefect's server, on PostgreSQL and with a password."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tasks.services import postgres
from tasks.services.process import HOST, answers, require_free, running, start, wait_healthy

USER = "gfpet"


def start_prefect(folder: Path, secrets: dict[str, str], port: int, postgres_port: int) -> None:
    """Start the server.

    Args:
        folder: Folder of log, process id and Prefect's own files.
        secrets: From `load_secrets`.
        port: Port on 127.0.0.1.
        postgres_port: Port of the database.

    Raises:
        ServiceError: the server does not start.
    """
    if running("prefect", folder) is None:
        require_free("prefect", port)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
        database = postgres.uri("prefect", secrets["postgres"], postgres_port, "postgresql+asyncpg")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            # The caller may set how often the server checks schedules and late runs.
            **{name: value for name, value in os.environ.items() if name.startswith("PREFECT_SERVER_SERVICES_")},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_PROFILES_PATH": str(folder / "prefect" / "profiles.toml"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_SERVER_API_AUTH_STRING": f"{USER}:{secrets['prefect']}",
            "PREFECT_API_URL": f"http://{HOST}:{port}/api",
            "PREFECT_API_AUTH_STRING": f"{USER}:{secrets['prefect']}",
            "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",
            # A busy machine may exceed the default timeout of ten seconds.
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            "PREFECT_SERVER_DATABASE_CONNECTION_TIMEOUT": "60",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
        }
        start("prefect", command, folder, environment)
    wait_healthy("prefect", folder, lambda: answers(f"http://{HOST}:{port}/api/health"))
