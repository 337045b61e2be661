"""All services together: starts those that are stopped, reports their state, stops them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from tasks.services import mlflow_server, object_store, postgres, prefect_server
from tasks.services.process import HOST, answers, running, stop
from tasks.services.secrets import load_secrets, write_private

NAMES = ("postgres", "s3", "mlflow", "prefect")


@dataclass(frozen=True)
class Ports:
    """The services' ports on 127.0.0.1."""

    postgres: int = 5433
    s3: int = 9000
    mlflow: int = 5000
    prefect: int = 4200


class Stack:
    """The services with their files in one folder."""

    def __init__(
        self,
        folder: Path,
        ports: Ports | None = None,
        artifacts: Literal["folder", "s3"] = "folder",
        environments: Path | None = None,
    ) -> None:
        """Describe the services, without starting them.

        Args:
            folder: Folder of logs, process ids and passwords; created if missing, and closed to other users.
            ports: The services' ports; by default those of the last start.
            artifacts: Where MLflow keeps artifacts: in `folder`, or in the S3 store, which loses them when it stops.
            environments: Folder of the S3 server's Python environment; by default `folder`.
        """
        self.folder = folder.resolve()
        noted = self.folder / "ports.json"
        self.ports = ports or (Ports(**json.loads(noted.read_text(encoding="utf-8"))) if noted.is_file() else Ports())
        self.artifacts = artifacts
        self.environments = environments or self.folder

    def start(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Start all services that are not running, and wait until all are healthy.

        Raises:
            ServiceError: a service does not start; the others keep running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # also if it existed with other permissions
        secrets, ports = self._secrets(), self.ports
        (self.folder / "ports.json").write_text(json.dumps(asdict(ports)), encoding="utf-8")

        def store_and_mlflow() -> None:
            object_store.start_object_store(self.folder, self.environments, ports.s3, secrets["s3"])
            tell(f"S3      http://{HOST}:{ports.s3}")
            where = f"s3://{object_store.BUCKET}/mlflow" if self.artifacts == "s3" else str(self.folder / "artifacts")
            mlflow_server.start_mlflow(self.folder, secrets, ports.mlflow, ports.postgres, where, self.s3_environment())
            tell(f"MLflow  http://{HOST}:{ports.mlflow}")

        postgres.start_postgres(self.folder, secrets["postgres"], ports.postgres)
        tell(f"PostgreSQL  {HOST}:{ports.postgres}")
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(store_and_mlflow)
            second = pool.submit(
                partial(prefect_server.start_prefect, self.folder, secrets, ports.prefect, ports.postgres)
            )
            for future in (second, first):
                future.result()
        tell(f"Prefect http://{HOST}:{ports.prefect}")
        write_private(self.folder / "env", self.exports())

    def status(self) -> dict[str, str]:
        """State by service: `healthy`, `starting` (runs, but does not answer) or `stopped`."""
        checks = {
            "s3": f"http://{HOST}:{self.ports.s3}/moto-api/",
            "mlflow": f"http://{HOST}:{self.ports.mlflow}/health",
            "prefect": f"http://{HOST}:{self.ports.prefect}/api/health",
        }
        states = {}
        for name in NAMES:
            if running(name, self.folder) is None:
                states[name] = "stopped"
            else:
                healthy = answers(checks[name]) if name in checks else postgres.is_ready(self.ports.postgres)
                states[name] = "healthy" if healthy else "starting"
        return states

    def stop(self) -> list[str]:
        """Stop all running services, the database last; return their names."""
        return [name for name in reversed(NAMES) if stop(name, self.folder)]

    def client_environment(self) -> dict[str, str]:
        """Environment variables of programs that use the services. They contain passwords: do not log them."""
        secrets = self._secrets()
        return {
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{self.ports.mlflow}",
            "MLFLOW_TRACKING_USERNAME": mlflow_server.ADMIN,
            "MLFLOW_TRACKING_PASSWORD": secrets["mlflow_admin"],
            "PREFECT_API_URL": f"http://{HOST}:{self.ports.prefect}/api",
            "PREFECT_API_AUTH_STRING": f"{prefect_server.USER}:{secrets['prefect']}",
            **self.s3_environment(),
        }

    def s3_environment(self) -> dict[str, str]:
        """Environment variables for access to the S3 store."""
        return {
            "AWS_ACCESS_KEY_ID": object_store.ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self._secrets()["s3"],
            "AWS_DEFAULT_REGION": object_store.REGION,
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self.ports.s3}",
            "MLFLOW_S3_ENDPOINT_URL": f"http://{HOST}:{self.ports.s3}",
        }

    def exports(self) -> str:
        """`client_environment` as shell commands."""
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.client_environment().items()]
        return "\n".join(lines) + "\n"

    def _secrets(self) -> dict[str, str]:
        return load_secrets(self.folder / "secrets.json")
