"""The harness of every stage program: folders, resumable state, metrics, curves, MLflow.

    def program(family: str, task: str) -> None:
        with stage("tune", f"{family}/{task}") as run:
            with run.measure("train"):
                ...
            run.log_curve("lora/loss", step, loss)

A stage's outputs contain no times, so that equal inputs give equal bytes. Measurements go to `metrics/`.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gfpet.config import Params, load_params
from gfpet.errors import GfpetError
from gfpet.results import PredictionRow, ResultRow, write_predictions, write_results
from gfpet.stages._identity import Identity, running_stage
from gfpet.stages._state import StageState, open_state
from gfpet.tracking import StageTracker, track_stage


class StageRun:
    """One running stage instance; made by `stage`."""

    label: str
    """DVC's name, e.g. `tune@gpt2-cb`."""
    params: Params
    """The checked `params.yaml`."""
    output: Path
    """`outputs/<stage>/<instance>`, empty at the start."""
    work: Path
    """`.work/<stage>/<instance>`: survives a kill; removed when the stage succeeds."""

    rows: list[ResultRow]
    """All rows given to `log_results` so far."""

    def __init__(self, label: str, params: Params, output: Path, state: StageState, tracker: StageTracker) -> None:
        self.params = params
        self.output = output
        self.work = state.work
        self.label = label
        self._state = state
        self._tracker = tracker
        self.rows = []
        self._predictions: list[PredictionRow] = []

    @property
    def resumed(self) -> bool:
        """Whether `work` holds the state of a killed run with the same inputs."""
        return self._state.resumed

    def say(self, text: str) -> None:
        """Print a line to standard error, prefixed with the stage's name."""
        print(f"[{self.label}] {text}", file=sys.stderr, flush=True)

    def log_value(self, name: str, value: float | int | str | bool | None) -> None:
        """Log a final value to `values` of the stage's metrics and, if it is a number, to MLflow."""
        self._state.record_value(name, value)
        self._tracker.value(name, value)

    def log_curve(self, series: str, step: int, value: float | int) -> None:
        """Log a point of a curve. It replaces a point of the same series and step: a resumed loop may repeat steps."""
        self._state.record_point(series, step, float(value))
        self._tracker.point(series, step, float(value))

    def carries_nothing(self) -> bool:
        """Whether `kinds` is empty: no module of S is transferred, and the stage has no work. If so, logs a line."""
        if not self.params.kinds:
            self.say("kinds is empty: nothing of the small model is carried over, and there is nothing to do here.")
        return not self.params.kinds

    def log_results(self, rows: Iterable[ResultRow], predictions: PredictionRow | None = None) -> None:
        """Add rows to `<output>/results.json`, and the predictions behind them to `<output>/predictions.jsonl`.

        A resumed stage must log all its rows again.
        """
        self.rows += rows
        self._predictions += [predictions] if predictions else []
        write_results(self.output / "results.json", self.rows)
        write_predictions(self.output / "predictions.jsonl", self._predictions)

    def log_dataset(self, name: str, path: str | Path, source: str, digest: str) -> None:
        """Log data that the stage reads as an MLflow input.

        Args:
            name: e.g. the task.
            path: its local path.
            source: its origin: `embedded`, a hub id with its revision, a folder.
            digest: hash of its content; MLflow keeps the first 36 characters.
        """
        self._tracker.dataset(name, str(path), source, digest)

    def log_artifact(self, path: str | Path) -> None:
        """Log a file or folder outside `output` to MLflow. The content of `output` is logged anyway at the end."""
        self._tracker.artifact(Path(path))

    @contextmanager
    def measure(self, phase: str, resident: Iterable[Any] = ()) -> Iterator[Any]:
        """Measure time and memory of a phase with `gfpet.memory.measure`; yields its meter.

        Repeated measurements of a phase add up their seconds and steps, and keep the highest peaks.

        Args:
            phase: name below `memory` in the stage's metrics.
            resident: modules and tensors already in memory; they count into the peak.
        """
        from gfpet.memory import measure

        measuring = measure(phase, resident=resident)
        del resident  # this frame lives as long as the phase, and would keep them alive
        with measuring as meter:
            yield meter
        reading = {name: value for name, value in meter.reading.as_dict().items() if name != "phase"}
        self._tracker.memory(phase, self._state.record_memory(phase, reading))


@contextmanager
def stage(name: str, instance: str | None = None) -> Iterator[StageRun]:
    """Run a stage instance in the current folder, which is the project's root.

    If the body succeeds, this writes `metrics/<name>/<instance>.json` and `curves/<name>/<instance>.csv` and removes
    the work folder. If it raises, the work folder stays for the next run and the MLflow run ends as failed. An
    unreachable tracking server is reported, but does not stop the stage.

    Args:
        name: the stage, as in `dvc.yaml`.
        instance: `<family>/<task>` or `<family>`; None for a stage without a matrix.

    Raises:
        ConfigError: `params.yaml` is invalid.
    """
    root = Path.cwd()
    params = load_params(root / "params.yaml")
    label = f"{name}@{instance.replace('/', '-')}" if instance else name
    where = Path(name) / instance if instance else Path(name)
    identity, trouble = _identity(root)
    key = identity.key if identity else None
    state = open_state(root / ".work" / where, params, key)
    output = root / "outputs" / where
    _empty(output)
    tracker = track_stage(root, name, instance, params, key)
    for path, digest in identity.examples if identity else ():
        tracker.dataset(Path(path).name, path, params.prepare.source, digest)
    run = StageRun(label, params, output, state, tracker)
    run.say(state.story)
    if trouble:
        run.say(trouble)
    for line in tracker.restore(state.points):
        run.say(line)
    started = time.monotonic()
    try:
        yield run
        seconds = state.seconds_before + time.monotonic() - started
        metrics = {"seconds": seconds, "memory": state.memory, "values": state.values}
        _write_metrics(root / "metrics" / f"{where}.json", metrics)
        _write_curves(root / "curves" / f"{where}.csv", state)
    except BaseException as error:
        state.close()
        tracker.fail(killed=not isinstance(error, Exception))
        _say_all(run, tracker)
        raise
    tracker.finish({"seconds": seconds}, run.rows, output)
    _say_all(run, tracker)
    state.close()
    shutil.rmtree(state.work)
    run.say(f"done in {seconds:.1f} s")


def main(program: Callable[[], None]) -> None:
    """Run a stage program. On a `GfpetError`, print only its text and exit with code 1."""
    try:
        program()
    except GfpetError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(1)


def _identity(root: Path) -> tuple[Identity | None, str | None]:
    """The stage's identity, or why there is none. It only finds earlier state and runs, so failing must not end the
    stage."""
    try:
        return running_stage(root), None
    except Exception as error:
        return None, f"DVC did not tell this stage's identity ({type(error).__name__}: {error}); it goes on without"


def _say_all(run: StageRun, tracker: StageTracker) -> None:
    for line in tracker.messages():
        run.say(line)


def _empty(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _write_curves(path: Path, state: StageState) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["series", "step", "value"])
        rows.writerows((series, step, repr(value)) for (series, step), value in sorted(state.points.items()))
