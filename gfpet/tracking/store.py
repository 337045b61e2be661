"""The tracking store, and the operations on it that live logging and publishing share."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from gfpet.secrets import without_secrets

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

STAGE_KEY = "dvc.stage_key"
PARENT = "mlflow.parentRunId"
ARTIFACT_CAP_BYTES = 256 * 2**20
"""Limit for the artifacts of one run together; DVC keeps larger files anyway."""

PROJECT_ENV = "GFPET_PROJECT"
"""Environment variable with the project of a clone, set by the program that runs stages in it."""

Point = tuple[str, float, int]
"""Metric, value, step."""

_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100
_LOCK_SECONDS = 60.0


def home(root: Path) -> Path:
    """The project whose store a folder uses: normally the folder itself.

    For a clone made for one run, and for DVC's temporary copy of a queued experiment, it is the original project: those
    folders are deleted, together with any store inside.
    """
    given = os.environ.get(PROJECT_ENV)
    if given:
        return Path(given).resolve()
    parts = root.resolve().parts
    for index in range(len(parts) - 2):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return root.resolve()


def tracking_uri(root: Path) -> str:
    """`MLFLOW_TRACKING_URI` if set, otherwise SQLite in the project's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home(root) / 'mlflow.db'}"


def shown_uri(root: Path) -> str:
    """`tracking_uri` for display: without user and password."""
    return without_secrets(tracking_uri(root))


def short_error(error: BaseException) -> str:
    """Type and first line of an error, without passwords; MLflow's messages fill pages."""
    lines = str(error).splitlines()
    return without_secrets(f"{type(error).__name__}: {lines[0][:200] if lines else ''}")


class Store:
    """A connection to the tracking store. Methods raise MLflow's errors; callers catch them."""

    client: MlflowClient

    def __init__(self, root: Path) -> None:
        """Connect, and create the database if it is missing. One process at a time: MLflow's creation of a database
        fails if several start it together.
        """
        # Short defaults: a stage must not wait for a store that is down. Users of a slow store set these.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # Otherwise MLflow prints the address of each run that ends on a server, among the stage's own lines.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.sqlalchemy_store"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        self._home = home(root)
        folder = self._home / ".work"
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(folder / "tracking.lock", timeout=_LOCK_SECONDS)
        """Held while something is looked up and created if missing, so that two processes don't both create it."""
        self.uri = tracking_uri(root)
        with self.lock:
            self.client = MlflowClient(tracking_uri=self.uri)
            self.client.search_experiments(max_results=1)

    def experiment(self, family: str) -> str:
        """Id of the experiment `gfpet/<family>`; created if missing, restored if deleted."""
        name = f"gfpet/{family}"
        with self.lock:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                # Without the tag, MLflow's pages open on chat traces, and there are none here.
                tags = {"mlflow.experimentKind": "custom_model_development"}
                try:
                    return self.client.create_experiment(name, artifact_location=self._artifacts(family), tags=tags)
                except Exception:
                    # The lock covers this machine only: another may have created it meanwhile.
                    found = self.client.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

    def _artifacts(self, family: str) -> str | None:
        if self.uri.startswith(("http:", "https:", "databricks")):
            return None  # the server knows where its artifacts go
        return (self._home / "mlartifacts" / family).as_uri()

    def find(self, experiment: str, tag: str, value: str) -> Run | None:
        """A run with a tag, preferably a finished one."""
        runs = self.client.search_runs([experiment], f"tags.`{tag}` = '{value}'", max_results=50)
        return next((run for run in runs if run.info.status == "FINISHED"), runs[0] if runs else None)

    def drop_doubles(self, experiment: str, key: str) -> None:
        """Keep one finished run of a result. Two machines that start the same stage at once may each create one. The
        last to end sees both, and every machine keeps the same one.
        """
        runs = self.client.search_runs([experiment], f"tags.`{STAGE_KEY}` = '{key}'", max_results=50)
        finished = sorted(str(run.info.run_id) for run in runs if run.info.status == "FINISHED")
        for run_id in finished[1:]:
            self.client.delete_run(run_id)

    def log_points(self, run_id: str, points: Iterable[Point]) -> None:
        """Log metrics with steps, in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in points]
        for start in range(0, len(metrics), _METRICS_PER_BATCH):
            self.client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])

    def known_points(self, run: Run) -> set[tuple[str, int]]:
        """Metric and step of all points that the run already has."""
        names = run.data.metrics
        return {(name, item.step) for name in names for item in self.client.get_metric_history(run.info.run_id, name)}

    def log_params(self, run: Run, params: Mapping[str, str]) -> None:
        """Log the parameters that the run lacks: MLflow refuses to change one."""
        from mlflow.entities import Param

        new = [Param(key, value) for key, value in params.items() if key not in run.data.params]
        for start in range(0, len(new), _PARAMS_PER_BATCH):
            self.client.log_batch(run.info.run_id, params=new[start : start + _PARAMS_PER_BATCH])

    def log_dataset(self, run_id: str, name: str, path: str, source: str, digest: str) -> None:
        """Log a data set as the run's input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        where = json.dumps({"uri": path, "source": source})
        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=where)
        self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def log_files(self, run_id: str, folder: Path) -> list[str]:
        """Log a folder's files as artifacts, small ones first, up to `ARTIFACT_CAP_BYTES`; return those left out."""
        files = sorted((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)
        left_out, total = [], 0
        for file in files:
            size = file.stat().st_size
            if total + size > ARTIFACT_CAP_BYTES:
                left_out.append(f"{file.relative_to(folder)} ({size / 2**20:.0f} MiB)")
                continue
            total += size
            below = file.relative_to(folder).parent.as_posix()
            self.client.log_artifact(run_id, str(file), None if below == "." else below)
        return left_out
