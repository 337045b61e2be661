"""MLflow's server: it keeps runs in PostgreSQL, serves the artifacts, and requires a password."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tasks.services import postgres
from tasks.services.process import HOST, answers, require_free, running, start, wait_healthy
from tasks.services.secrets import write_private

ADMIN = "admin"

# Every account may log to every experiment: gfpet's experiments belong to the team, but MLflow would reserve each for
# the account that created it.
_AUTH = """\
[mlflow]
default_permission = EDIT
database_uri = {database}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
auth_cache_max_size = 1000
"""


def start_mlflow(
    folder: Path, secrets: dict[str, str], port: int, postgres_port: int, artifacts: str, s3: dict[str, str]
) -> None:
    """Start the server.

    Args:
        folder: Folder of log, process id and configuration.
        secrets: From `load_secrets`.
        port: Port on 127.0.0.1.
        postgres_port: Port of the database.
        artifacts: Folder or `s3://` address of the artifacts; clients need no access to it.
        s3: Environment variables for access to the S3 store.

    Raises:
        ServiceError: the server does not start.
    """
    if running("mlflow", folder) is None:
        require_free("mlflow", port)
        password = secrets["postgres"]
        settings = folder / "mlflow-auth.ini"
        database = postgres.uri("mlflow_auth", password, postgres_port).replace("%", "%%")
        write_private(settings, _AUTH.format(database=database, admin=ADMIN))
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
        command += ["--app-name", "basic-auth", "--serve-artifacts", "--artifacts-destination", artifacts]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
            **s3,
            "MLFLOW_BACKEND_STORE_URI": postgres.uri("mlflow", password, postgres_port),
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets["mlflow_admin"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets["mlflow_session"],
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        start("mlflow", command, folder, environment)
    wait_healthy("mlflow", folder, lambda: answers(f"http://{HOST}:{port}/health"))
