"""State of a stage that survives a kill: everything logged so far, tied to the stage's inputs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import time
from pathlib import Path
from typing import Any, TextIO

from gfpet.config import Params

_FOLDER = "_harness"
_SAVE_EVERY = 2.0
_PEAK, _SPLIT = "cpu_live_peak_bytes", "cpu_live_peak_"
_SUMMED = {"seconds", "steps", "tracked_steps"}


class StageState:
    """Curves, values and readings of a running stage, saved to `work/_harness` as they arrive; made by `open_state`."""

    work: Path
    resumed: bool
    story: str
    """One line for the log: a fresh start, a resumed run, or removed state of other inputs."""
    seconds_before: float
    """Seconds of earlier, killed runs, as last saved."""
    points: dict[tuple[str, int], float]
    values: dict[str, Any]
    memory: dict[str, dict[str, Any]]

    def __init__(self, work: Path, story: str, resumed: bool) -> None:
        self.work, self.story, self.resumed = work, story, resumed
        folder = work / _FOLDER
        self._file = folder / "recorded.json"
        recorded = json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else {}
        self.seconds_before = recorded.get("seconds", 0.0)
        self.values = recorded.get("values", {})
        self.memory = recorded.get("memory", {})
        self._started = self._saved = time.monotonic()
        self.points, self._curves = _open_curves(folder / "curves.csv")

    def record_point(self, series: str, step: int, value: float) -> None:
        """Record a point. Flushed before returning, so a kill does not lose it."""
        self.points[series, step] = value
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([series, step, repr(value)])
        self._curves.write(line.getvalue())
        self._curves.flush()
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self._save()

    def record_value(self, name: str, value: Any) -> None:
        """Record a final value; it replaces an earlier one of the same name."""
        self.values[name] = value
        self._save()

    def record_memory(self, phase: str, reading: dict[str, Any]) -> dict[str, Any]:
        """Record a reading; returns the phase's total so far: summed seconds and steps, highest peaks."""
        before = self.memory.get(phase, {})
        lower = (before.get(_PEAK) or 0) > (reading.get(_PEAK) or 0)
        for name, value in reading.items():
            known = before.get(name)
            if name.startswith(_SPLIT) and name != _PEAK:
                # The parts of a peak belong together: keep those of the higher peak.
                before[name] = known if lower else value
                continue
            if known is None or value is None:
                before[name] = value if known is None else known
            else:
                before[name] = known + value if name in _SUMMED else max(known, value)
        self.memory[phase] = before
        self._save()
        return before

    def close(self) -> None:
        """Save, and close the curves file."""
        self._save()
        self._curves.close()

    def _save(self) -> None:
        self._saved = time.monotonic()
        seconds = self.seconds_before + self._saved - self._started
        text = json.dumps({"seconds": seconds, "values": self.values, "memory": self.memory})
        temporary = self._file.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self._file)


def open_state(work: Path, params: Params, stage_key: str | None) -> StageState:
    """Open the state in `work` if it belongs to the same inputs; otherwise empty the folder.

    Under DVC the stage key identifies the inputs exactly. A program started by hand uses all parameters except the
    preset's name: it may discard usable state for a parameter that it does not use.

    Args:
        work: the stage instance's work folder; created if missing.
        params: the checked parameters.
        stage_key: hash of command, dependencies and parameters; None outside DVC.
    """
    text = json.dumps({"stage": stage_key, "params": None if stage_key else _plain(params)}, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()
    file = work / _FOLDER / "key"
    found = file.read_text(encoding="utf-8").strip() if file.exists() else None
    resumed = found == key
    story = "starts"
    if resumed:
        story = f"resumes from {work}"
    elif work.exists():
        shutil.rmtree(work)
        story = f"starts; state of other inputs was in {work} and has been removed"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(key + "\n", encoding="utf-8")
    return StageState(work, story, resumed)


def _plain(params: Params) -> dict[str, Any]:
    return params.model_dump(mode="json", exclude={"preset"})


def _open_curves(path: Path) -> tuple[dict[tuple[str, int], float], TextIO]:
    """The points of a curves file, and the file opened to append. Drops a last line cut off by a kill."""
    points: dict[tuple[str, int], float] = {}
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    for series, step, value in csv.reader(io.StringIO(whole)):
        points[series, int(step)] = float(value)
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return points, path.open("a", encoding="utf-8")
