"""Makes runs from a stage's files, for results from DVC's cache or a remote, or from a time without tracking."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from gfpet.config import Params, flatten, flatten_keys, load_params
from gfpet.results import read_results
from gfpet.tracking.describe import (
    child_tag,
    family_of,
    memory_metrics,
    metric_name,
    param_texts,
    result_metrics,
    run_name,
    run_params,
    run_tags,
    value_metrics,
)
from gfpet.tracking.keys import examples_read, stage_key
from gfpet.tracking.parents import create_parent, to_stderr
from gfpet.tracking.store import PARENT, STAGE_KEY, Point, Store, short_error

Outcome = Literal["published", "completed", "present", "absent", "down"]
"""`published`: made a run; `completed`: completed an unfinished run; `present`: found a finished run; `absent`: files
are missing or are of another version; `down`: tracking is unreachable."""


@dataclass(frozen=True)
class _Result:
    """Files of a stage instance's result."""

    stage: str
    instance: str | None
    key: str
    entry: Mapping[str, Any]
    metrics: Path
    curves: Path
    output: Path


def publish_stage(root: Path, stage_name: str, lock_entry: Mapping[str, Any], parent: str | None = None) -> Outcome:
    """Ensure that MLflow has one run for the result of an entry of `dvc.lock`.

    Args:
        root: the project's folder.
        stage_name: as in `dvc.lock`, `tune@gpt2-cb`.
        lock_entry: its entry there.
        parent: the parent run. If the run already has another parent, it keeps it, and `parent` gets a tag
            `gfpet.child.<stage>/<instance>` with the run's id.

    Returns:
        What was done. If the store is unreachable: `down`, with a line on standard error.

    Raises:
        ConfigError: `params.yaml` is invalid.
        DataError: the stage's `results.json` is broken.
    """
    result = _find(root, stage_name, lock_entry)
    if result is None:
        return "absent"
    params = load_params(root / "params.yaml")
    points = _points(result)
    try:
        return _publish(Store(root), root, result, params, points, parent)
    except Exception as error:
        to_stderr(f"{stage_name}: MLflow is out of reach ({short_error(error)})")
        return "down"


def publish_all(
    root: Path, parents: Mapping[str, str | None] | None = None, tell: Callable[[str], None] = to_stderr
) -> dict[str, Outcome]:
    """`publish_stage` for every entry of `dvc.lock`; stops at the first that is `down`.

    Args:
        root: the project's folder.
        parents: parent run by family (`pipeline` for stages without one). New runs of other families get a new parent
            named `published`.
        tell: receives error messages.

    Raises:
        ConfigError: `params.yaml` is invalid.
        DataError: a stage's `results.json` is broken.
    """
    lock = root / "dvc.lock"
    if not lock.exists():
        return {}
    entries = YAML(typ="safe", pure=True).load(lock.read_text(encoding="utf-8")).get("stages") or {}
    found = {name: _find(root, name, entry) for name, entry in entries.items()}
    outcomes: dict[str, Outcome] = dict.fromkeys(entries, "absent")
    results = {name: result for name, result in found.items() if result is not None}
    if not results:
        return outcomes
    params = load_params(root / "params.yaml")
    points = {name: _points(result) for name, result in results.items()}
    given = {family: run for family, run in (parents or {}).items() if run}
    opened: dict[str, str] = {}
    try:
        store = Store(root)

        def parent_of(result: _Result) -> str:
            family = family_of(result.instance)
            if family not in opened:
                experiment = store.experiment(family)
                identity = f"publish-{result.key[:12]}"
                opened[family] = create_parent(store, root, experiment, family, params, identity, "published")
            return opened[family]

        for name, result in results.items():
            parent = given.get(family_of(result.instance))
            make = partial(parent_of, result)
            outcomes[name] = _publish(store, root, result, params, points[name], parent, make)
        for run_id in opened.values():
            store.client.set_terminated(run_id, "FINISHED")
    except Exception as error:
        tell(f"MLflow is out of reach ({short_error(error)})")
        outcomes |= {name: "down" for name in results if outcomes[name] == "absent"}
    return outcomes


def _find(root: Path, stage_name: str, entry: Mapping[str, Any]) -> _Result | None:
    """The files of a lock entry, if present and unchanged."""
    stage = stage_name.partition("@")[0]
    for out in entry.get("outs") or ():
        path = str(out["path"])
        if path != f"metrics/{stage}.json" and not path.startswith(f"metrics/{stage}/"):
            continue
        file = root / path
        # Files of another version (after an interrupted repro or a missing checkout) do not belong to this key.
        if not file.exists() or hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != out.get("md5"):
            return None
        where = path.removeprefix("metrics/").removesuffix(".json")
        _, _, instance = where.partition("/")
        curves, output = root / "curves" / f"{where}.csv", root / "outputs" / where
        return _Result(stage, instance or None, stage_key(entry), entry, file, curves, output)
    return None


def _publish(
    store: Store,
    root: Path,
    result: _Result,
    params: Params,
    points: list[Point],
    parent: str | None,
    make_parent: Callable[[], str] | None = None,
) -> Outcome:
    family = family_of(result.instance)
    experiment = store.experiment(family)
    ended = int(result.metrics.stat().st_mtime * 1000)
    with store.lock:
        run = store.find(experiment, STAGE_KEY, result.key)
        if run is not None and run.info.status == "FINISHED":
            if parent and run.data.tags.get(PARENT) != parent:
                store.client.set_tag(parent, child_tag(result.stage, result.instance), run.info.run_id)
            return "present"
        outcome: Outcome = "published" if run is None else "completed"
        if run is None:
            parent = parent or (make_parent() if make_parent else None)
            tags = {
                **run_tags(root, family, params),
                "gfpet.stage": result.stage,
                "gfpet.instance": result.instance or "",
                "gfpet.from_files": "true",
                STAGE_KEY: result.key,
            }
            seconds = next(value for name, value, _ in points if name == "seconds")
            name = run_name(result.stage, result.instance)
            tags |= {PARENT: parent} if parent else {}
            run = store.client.create_run(experiment, ended - int(seconds * 1000), tags, name)
        elif parent and run.data.tags.get(PARENT) != parent:
            store.client.set_tag(run.info.run_id, PARENT, parent)
    run_id = run.info.run_id
    store.log_params(run, _params(result.entry, params))
    known = store.known_points(run)
    store.log_points(run_id, [point for point in points if (point[0], point[2]) not in known])
    for path, digest in examples_read(result.entry):
        store.log_dataset(run_id, Path(path).name, path, params.prepare.source, digest)
    if result.output.is_dir():
        store.log_files(run_id, result.output)
    store.client.set_terminated(run_id, "FINISHED", ended)
    store.drop_doubles(experiment, result.key)
    return outcome


def _params(entry: Mapping[str, Any], params: Params) -> dict[str, str]:
    """All parameters if those that the stage read are unchanged; otherwise only those that it read."""
    read = flatten_keys((entry.get("params") or {}).get("params.yaml") or {})
    now = flatten(params)
    same = all(key in now and now[key] == value for key, value in read.items())
    return run_params(params) if same else param_texts(read)


def _points(result: _Result) -> list[Point]:
    """All metrics in the result's files."""
    metrics = json.loads(result.metrics.read_text(encoding="utf-8"))
    final = {"seconds": float(metrics["seconds"]), **value_metrics(metrics["values"])}
    for phase, reading in metrics["memory"].items():
        final |= memory_metrics(phase, reading)
    rows = result.output / "results.json"
    if rows.exists():
        final |= result_metrics(read_results(rows))
    points: list[Point] = [(name, value, 0) for name, value in final.items()]
    if result.curves.exists():
        with result.curves.open(encoding="utf-8", newline="") as lines:
            points += [
                (metric_name(row["series"]), float(row["value"]), int(row["step"])) for row in csv.DictReader(lines)
            ]
    return points
