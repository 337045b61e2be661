"""Compares MLflow runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gfpet.errors import DataError
from gfpet.tracking.store import Store, short_error, shown_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

_ABOUT = {
    "preset": "gfpet.preset",
    "commit": "gfpet.git.commit",
    "uncommitted changes": "gfpet.git.dirty",
    "data": "gfpet.data.source",
}
_NOTHING = "-"


@dataclass(frozen=True)
class Comparison:
    """Rows of text with one value for each run; `-` if a run has none."""

    runs: tuple[str, ...]
    """Ids of the runs."""
    about: dict[str, tuple[str, ...]]
    params: dict[str, tuple[str, ...]]
    metrics: dict[str, tuple[str, ...]]


def compare_runs(root: Path, wanted: Sequence[str]) -> Comparison:
    """Compare two or more runs.

    Args:
        root: the project's folder.
        wanted: ids of runs, or unique prefixes of ids.

    Raises:
        DataError: MLflow does not answer; fewer than two runs; or an unknown or ambiguous id.
    """
    try:
        store = Store(root)
    except Exception as error:
        raise DataError(f"MLflow at {shown_uri(root)} does not answer: {short_error(error)}") from error
    experiments = [each for each in store.client.search_experiments() if each.name.startswith("gfpet/")]
    runs = (
        store.client.search_runs([each.experiment_id for each in experiments], max_results=5000) if experiments else []
    )
    if len(wanted) < 2:
        raise DataError(f"to compare takes two runs or more, found {len(wanted)}. {_latest(runs)}")
    chosen = [_find(name, runs) for name in wanted]
    about = {
        "run": tuple(run.info.run_name or _NOTHING for run in chosen),
        "status": tuple(str(run.info.status) for run in chosen),
        **{name: tuple(run.data.tags.get(tag, _NOTHING) for run in chosen) for name, tag in _ABOUT.items()},
    }
    about["commit"] = tuple(commit[:12] for commit in about["commit"])
    return Comparison(
        tuple(str(run.info.run_id) for run in chosen),
        about,
        _rows([run.data.params for run in chosen]),
        _rows([{key: f"{value:.6g}" for key, value in run.data.metrics.items()} for run in chosen]),
    )


def _rows(values: Sequence[dict[str, str]]) -> dict[str, tuple[str, ...]]:
    names = sorted({name for each in values for name in each})
    return {name: tuple(each.get(name, _NOTHING) for each in values) for name in names}


def _find(name: str, runs: Sequence[Run]) -> Run:
    found = [run for run in runs if str(run.info.run_id).startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"{len(found)} runs begin with '{name}'; give more of the id. {_latest(found)}")
    raise DataError(f"MLflow has no run '{name}'. {_latest(runs)}")


def _latest(runs: Sequence[Run]) -> str:
    """The latest pipeline runs and their ids, as part of an error message."""
    whole = [run for run in runs if "gfpet.stage" not in run.data.tags] or list(runs)
    whole = sorted(whole, key=lambda run: -run.info.start_time)[:5]
    lines = [f"  {run.info.run_id}  {run.info.run_name}" for run in whole]
    return "\n".join(["The latest are:", *lines]) if lines else "It has no runs of gfpet yet: gfpet run."
