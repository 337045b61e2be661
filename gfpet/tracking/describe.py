"""Names, parameters, tags and metrics of runs."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from gfpet.config import Params, checkpoints, flatten
from gfpet.errors import ConfigError
from gfpet.results import ResultRow

PIPELINE = "pipeline"
"""Used as the family of stages without one (`prepare`, `report`). They are logged once, in the experiment
`gfpet/pipeline`, since MLflow shows parent and child only within one experiment."""


def family_of(instance: str | None) -> str:
    """The family of a stage instance: `gpt2` for `gpt2/cb`; `pipeline` for a stage without a matrix."""
    return instance.split("/")[0] if instance else PIPELINE


def run_name(stage: str, instance: str | None) -> str:
    """Name of a stage's run: `tune gpt2/cb`."""
    return f"{stage} {instance}" if instance else stage


def child_tag(stage: str, instance: str | None) -> str:
    """Tag of a parent run that points to another parent's child: `gfpet.child.tune/gpt2/cb`."""
    return f"gfpet.child.{stage}/{instance}" if instance else f"gfpet.child.{stage}"


def metric_name(text: str) -> str:
    """A valid MLflow name: letters, digits and `_-. :/`; everything else becomes `_`."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII).strip("/")[:250]


def param_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as text, as MLflow stores them; values other than strings as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def run_params(params: Params) -> dict[str, str]:
    """All parameters except the preset, which is a tag."""
    values = flatten(params)
    values.pop("preset")
    return param_texts(values)


def run_tags(root: Path, family: str, params: Params) -> dict[str, str]:
    """Tags for the origin of code, models and data."""
    tags = {
        **git_tags(root),
        "mlflow.source.name": "gfpet",
        "mlflow.user": _user(),
        "mlflow.source.type": "LOCAL",
        "gfpet.family": family,
        "gfpet.preset": params.preset,
        "gfpet.data.source": params.prepare.source,
        "gfpet.data.revision": {"hub": params.prepare.hub_revision, "embedded": f"seed {params.synthetic.seed}"}.get(
            params.prepare.source, params.prepare.directory or ""
        ),
    }
    try:
        pair = dict(zip(("small", "large"), checkpoints(params, family), strict=True))
    except ConfigError:
        return tags  # a stage without a family
    for size, checkpoint in pair.items():
        tags[f"gfpet.{size}"] = checkpoint.path
        tags[f"gfpet.{size}.revision"] = checkpoint.revision or "local"
    return tags


def _user() -> str:
    """The user: the account on the tracking server, or on this machine."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # containers may use an account without a name


def git_tags(root: Path) -> dict[str, str]:
    """The commit, and whether code differs from it: tracked files except `dvc.lock`, which every run changes, and new
    files in the packages. The commit is `none` without Git.
    """
    if not (root / ".git").exists() or shutil.which("git") is None:
        return {"gfpet.git.commit": "none", "gfpet.git.dirty": "unknown"}
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    new = _git(root, "status", "--porcelain", "--untracked-files=all", "--", "gfpet", "tasks", "flows")
    tags = {
        "gfpet.git.commit": commit or "none",
        "gfpet.git.dirty": "unknown" if changed is None or new is None else str(bool(changed or new)),
    }
    if commit:
        tags["mlflow.source.git.commit"] = commit
    return tags


def _git(root: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def memory_metrics(phase: str, reading: Mapping[str, Any]) -> dict[str, float]:
    """A phase's measurements as metrics `memory/<phase>/<field>`, numbers only."""
    return {metric_name(f"memory/{phase}/{name}"): float(value) for name, value in reading.items() if _is_number(value)}


def value_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Final values as metrics, numbers only."""
    return {metric_name(name): float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def result_metrics(rows: Iterable[ResultRow]) -> dict[str, float]:
    """Results as metrics `<task>/<kind>/<method>[/<strategy>]/<metric>`, averaged over seeds.

    With several seeds, also `<name>/seed-<seed>` for each.
    """
    values: dict[str, dict[int | None, float]] = defaultdict(dict)
    for row in rows:
        name = "/".join(part for part in (row.task, row.kind, row.method, row.strategy, row.metric) if part)
        values[metric_name(name)][row.seed] = row.value
    metrics = {name: fmean(seeds.values()) for name, seeds in values.items()}
    for name, seeds in values.items():
        if len(seeds) > 1:
            metrics |= {f"{name}/seed-{seed}": value for seed, value in seeds.items()}
    return metrics


def headline_metrics(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of a parent run from `reports/results.json`: `<method>/<kind>/<metric>`, and the same `/<task>`.

    Values and `gap_closed` are averaged over seeds, then over tasks. `peak_memory_bytes` is the maximum, `seconds` the
    sum over tasks.
    """
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        name = "/".join(row[part] for part in ("method", "kind", "strategy") if row.get(part))
        for column in ("value", "gap_closed", "peak_memory_bytes", "seconds"):
            # Gap, memory and time are repeated for every metric of a task; take them from `score` alone.
            if row.get(column) is None or (column != "value" and row["metric"] != "score"):
                continue
            cells[name, row["metric"] if column == "value" else column][row["task"]].append(float(row[column]))
    metrics: dict[str, float] = {}
    for (name, metric), tasks in cells.items():
        means = {task: fmean(values) for task, values in tasks.items()}
        total = fmean(means.values())
        if metric == "peak_memory_bytes":
            total = max(max(values) for values in tasks.values())
        elif metric == "seconds":
            total = sum(means.values())
        metrics[metric_name(f"{name}/{metric}")] = total
        metrics |= {metric_name(f"{name}/{metric}/{task}"): value for task, value in means.items()}
    return metrics
