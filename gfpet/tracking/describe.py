"""How runs are named and described: names, parameters, tags, metrics."""

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
"""Stands for the family in stages that belong to none (`prepare`, `report`): they are logged once, in the experiment
`gfpet/pipeline`, since MLflow shows parent and child only within one experiment."""


def family_of(instance: str | None) -> str:
    """`gpt2` for `gpt2/cb`; `pipeline` for a stage without a matrix."""
    return instance.split("/")[0] if instance else PIPELINE


def run_name(stage: str, instance: str | None) -> str:
    """`tune gpt2/cb`."""
    return f"{stage} {instance}" if instance else stage


def child_tag(stage: str, instance: str | None) -> str:
    """The tag by which a parent names a child that another parent made: `gfpet.child.tune/gpt2/cb`."""
    return f"gfpet.child.{stage}/{instance}" if instance else f"gfpet.child.{stage}"


def metric_name(text: str) -> str:
    """MLflow takes letters, digits, and `_-. :/`; everything else becomes `_`."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII).strip("/")[:250]


def param_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow stores them: text, lists and null as JSON."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def run_params(params: Params) -> dict[str, str]:
    """All parameters but the preset, which is a tag."""
    values = flatten(params)
    values.pop("preset")
    return param_texts(values)


def run_tags(root: Path, family: str, params: Params) -> dict[str, str]:
    """Where code, models and data come from."""
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
    """Who runs this: the account on the tracking server, or the one on this machine."""
    try:
        return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # an account without a name, as containers have


def git_tags(root: Path) -> dict[str, str]:
    """Commit, and whether the code differs from it: tracked files (but `dvc.lock`, which every run changes), and new
    ones among the packages. `none` without git.
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
    """`memory/<phase>/<field>`, numbers only."""
    return {metric_name(f"memory/{phase}/{name}"): float(value) for name, value in reading.items() if _is_number(value)}


def value_metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Final values that are numbers."""
    return {metric_name(name): float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def result_metrics(rows: Iterable[ResultRow]) -> dict[str, float]:
    """`<task>/<kind>/<method>[/<strategy>]/<metric>`, averaged over seeds; each seed below it if there are more."""
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
    """What a parent run shows of `reports/results.json`: `<method>/<kind>/<metric>`, and the same `/<task>`.

    Seeds are averaged, then tasks. `gap_closed` is averaged likewise, of `peak_memory_bytes` the highest counts, of
    `seconds` the sum over tasks.
    """
    cells: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        name = "/".join(row[part] for part in ("method", "kind", "strategy") if row.get(part))
        for column in ("value", "gap_closed", "peak_memory_bytes", "seconds"):
            # Several metrics of one task repeat what belongs to the task; `score` stands for all of them.
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
