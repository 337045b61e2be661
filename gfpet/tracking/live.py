"""Logs a run while its stage runs. A separate thread sends the data, so that a slow store does not slow the stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpet.config import Params
from gfpet.results import ResultRow
from gfpet.tracking.describe import (
    child_tag,
    family_of,
    memory_metrics,
    metric_name,
    result_metrics,
    run_name,
    run_params,
    run_tags,
    value_metrics,
)
from gfpet.tracking.parents import given_parent, shared_parent
from gfpet.tracking.store import PARENT, STAGE_KEY, Point, Store, short_error

if TYPE_CHECKING:
    from mlflow.entities import Run

_SEND_EVERY = 3.0


def track_stage(root: Path, stage: str, instance: str | None, params: Params, key: str | None) -> StageTracker:
    """Open the MLflow run of a stage instance.

    Resumes a killed or failed run of the same result. Opens none if the result already has a finished run. Never
    raises; `StageTracker.messages` reports what happened.
    """
    tracker = StageTracker(root, stage, instance, params, key)
    tracker.open()
    return tracker


class StageTracker:
    """Logs one stage instance. Stops at the first failure; `publish` later logs the rest from the stage's files."""

    def __init__(self, root: Path, stage: str, instance: str | None, params: Params, key: str | None) -> None:
        self._root, self._stage, self._instance, self._params, self._key = root, stage, instance, params, key
        self._store: Store | None = None
        self._run: Run | None = None
        self._own_parent: str | None = None
        self._seen: set[tuple[str, int]] = set()
        self._waiting: list[Point] = []
        self._final: dict[str, float] = {}
        self._messages: list[str] = []
        self._datasets: list[tuple[str, str, str, str]] = []
        self._artifacts: list[Path] = []
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._process: Any = None
        self._sender: threading.Thread | None = None

    @property
    def run_id(self) -> str | None:
        """Id of the open run; None if there is none."""
        return self._run.info.run_id if self._run else None

    def messages(self) -> list[str]:
        """Messages for the user since the last call."""
        with self._guard:
            messages, self._messages = self._messages, []
        return messages

    def open(self) -> None:
        """See `track_stage`."""
        self._try(self._open)

    def restore(self, points: Mapping[tuple[str, int], float]) -> list[str]:
        """Add a resumed stage's earlier points that the run lacks; return the messages."""
        for (series, step), value in points.items():
            self.point(series, step, value)
        return self.messages()

    def point(self, series: str, step: int, value: float) -> None:
        """Log a point of a curve; sent within a few seconds."""
        name = metric_name(series)
        with self._guard:
            if self._run is not None and (name, step) not in self._seen:
                self._seen.add((name, step))
                self._waiting.append((name, value, step))

    def value(self, name: str, value: Any) -> None:
        """Log a final value; sent at the end."""
        self._final |= value_metrics({name: value})

    def memory(self, phase: str, reading: Mapping[str, Any]) -> None:
        """Log memory and time of a phase; sent at the end."""
        self._final |= memory_metrics(phase, reading)

    def dataset(self, name: str, path: str, source: str, digest: str) -> None:
        """Log an input; sent at the end."""
        self._datasets.append((name, path, source, digest))

    def artifact(self, path: Path) -> None:
        """Log a file or folder; sent at the end."""
        self._artifacts.append(path)

    def finish(self, final: Mapping[str, float], rows: Iterable[ResultRow], output: Path) -> None:
        """Send everything, and end the run as finished."""
        self._final |= {**final, **result_metrics(rows)}
        self._end("FINISHED", lambda store, run: self._send_final(store, run, output))

    def fail(self, killed: bool) -> None:
        """End the run as failed or killed; the next run of the same result resumes it."""
        self._end("KILLED" if killed else "FAILED")

    def _open(self) -> None:
        store = Store(self._root)
        family = family_of(self._instance)
        experiment = store.experiment(family)
        parent = given_parent(family)
        if parent is None:
            parent = self._own_parent = shared_parent(store, self._root, experiment, family, self._params)
        with store.lock:
            run = store.find(experiment, STAGE_KEY, self._key) if self._key else None
            if run is not None and run.info.status == "FINISHED":
                self._point_to(store, parent, run)
                return
            tags = {
                **run_tags(self._root, family, self._params),
                "gfpet.stage": self._stage,
                "gfpet.instance": self._instance or "",
            }
            if parent:
                tags[PARENT] = parent
            if run is None:
                if self._key:
                    tags[STAGE_KEY] = self._key
                run = store.client.create_run(experiment, tags=tags, run_name=run_name(self._stage, self._instance))
            else:
                self._resume(store, run, tags)
        if self._own_parent:
            store.client.update_run(self._own_parent, status="RUNNING")
        store.log_params(run, run_params(self._params))
        self._store, self._run = store, run
        import psutil

        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call only starts its clock
        self._sender = threading.Thread(target=self._send_loop, name="mlflow", daemon=True)
        self._sender.start()

    def _point_to(self, store: Store, parent: str | None, run: Run) -> None:
        """The result already has a run (e.g. after a forced repro): make no second one, only a tag of the parent."""
        self._messages.append(f"MLflow has this result already, as run {run.info.run_id}; it is not logged again")
        if parent and run.data.tags.get(PARENT) != parent:
            store.client.set_tag(parent, child_tag(self._stage, self._instance), run.info.run_id)
        if self._own_parent:
            store.client.set_terminated(self._own_parent)

    def _resume(self, store: Store, run: Run, tags: Mapping[str, str]) -> None:
        run_id = run.info.run_id
        store.client.update_run(run_id, status="RUNNING")
        for tag, value in tags.items():
            if run.data.tags.get(tag) != value:
                store.client.set_tag(run_id, tag, value)
        self._seen = store.known_points(run)
        self._messages.append(f"goes on with MLflow run {run_id}")

    def _send_loop(self) -> None:
        while not self._stop.wait(_SEND_EVERY):
            self._try(self._sample)
            self._try(self._send)

    def _sample(self) -> None:
        run, process = self._run, self._process
        if run is None or process is None:
            return
        step = int(time.time() - run.info.start_time / 1000)
        self.point("system/rss_bytes", step, float(process.memory_info().rss))
        self.point("system/cpu_percent", step, float(process.cpu_percent()))

    def _send(self) -> None:
        with self._guard:
            points, self._waiting = self._waiting, []
        if points and self._store is not None and self._run is not None:
            self._store.log_points(self._run.info.run_id, points)

    def _send_final(self, store: Store, run: Run, output: Path) -> None:
        run_id = run.info.run_id
        final = [(name, value, 0) for name, value in self._final.items() if (name, 0) not in self._seen]
        store.log_points(run_id, final)
        for dataset in self._datasets:
            store.log_dataset(run_id, *dataset)
        for file in store.log_files(run_id, output):
            self._messages.append(f"MLflow: {file} is left out (too large); DVC has it")
        for path in self._artifacts:
            store.client.log_artifact(run_id, str(path))

    def _end(self, status: str, before: Callable[[Store, Run], None] | None = None) -> None:
        self._stop.set()
        if self._sender is not None:
            self._sender.join()
        self._try(lambda: self._end_run(status, before))

    def _end_run(self, status: str, before: Callable[[Store, Run], None] | None) -> None:
        if self._store is None or self._run is None:
            return
        self._sample()
        self._send()
        if before is not None:
            before(self._store, self._run)
        self._store.client.set_terminated(self._run.info.run_id, status)
        if status == "FINISHED" and self._key:
            self._store.drop_doubles(self._run.info.experiment_id, self._key)
        if self._own_parent:
            # The end of `dvc repro` cannot be observed: close its run after each stage; the next stage reopens it.
            self._store.client.set_terminated(self._own_parent, status)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            with self._guard:
                self._store = self._run = None
                self._waiting.clear()
                self._messages.append(
                    f"MLflow is out of reach ({short_error(error)}); the result is not affected, and "
                    "'gfpet publish' brings it there later"
                )
