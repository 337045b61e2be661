"""Reads the report's inputs for what is configured: result rows, the stages' measurements, similarities."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfpet.data import chance, majority, read_examples
from gfpet.errors import DataError
from gfpet.pipeline import FAMILY_STAGES, RESULT_STAGES, TASK_STAGES
from gfpet.results import ResultRow, order, read_results

Phases = dict[str, dict[str, Any]]
"""Measurements of a stage, by phase."""


@dataclass(frozen=True)
class Scope:
    """What is configured. Folders of anything else are leftovers of other runs, and ignored."""

    families: tuple[str, ...]
    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    among: tuple[str, ...]
    """The strategies that `auto` chooses among."""

    def has(self, task: str, kind: str, seed: int | None) -> bool:
        """Whether a row is in scope; an empty kind and no seed always are."""
        return task in self.tasks and (not kind or kind in self.kinds) and (seed is None or seed in self.seeds)


@dataclass(frozen=True)
class SimilarityRow:
    """Similarity of the modules of the small and the large model, by one measure."""

    family: str
    task: str
    kind: str
    seed: int | None
    measure: str
    value: float | None
    controls: dict[str, float | None]
    """The same measure for unrelated pairs; for `other_seed`, the ceiling."""
    heatmap: list[list[float | None]] | None
    """Value for each pair of layers `[n_S, n_L]`."""


@dataclass(frozen=True)
class Collected:
    """The report's inputs."""

    scope: Scope
    rows: list[ResultRow]
    memory: dict[tuple[str, ...], Phases]
    """By (stage, family, task), or (stage, family)."""
    seconds: dict[tuple[str, ...], float]
    """Duration of each of these stage instances, by the same keys."""
    similarity: list[SimilarityRow]
    missing: list[str]
    """Configured inputs that are missing."""


def collect(root: Path, scope: Scope) -> Collected:
    """Read the results below `root`, and compute what guessing would score on the same examples.

    Raises:
        DataError: there is no result at all, a file is broken, or two stages give different values for one result.
    """
    rows: dict[tuple[str | int, ...], ResultRow] = {}
    missing: list[str] = []
    for stage, family, task in _instances(scope, RESULT_STAGES):
        path = root / "outputs" / stage / family / task / "results.json"
        if not path.is_file():
            # The others may have no results: stage bridge scores nothing without training, and references are optional.
            if stage in ("tune", "evaluate"):
                missing.append(path.relative_to(root).as_posix())
            continue
        for row in read_results(path):
            if not scope.has(row.task, row.kind, row.seed) or row.family != family:
                continue
            if rows.setdefault(order(row), row) != row:
                raise DataError(f"{path}: another stage has this result with another value: {row}; run both again.")
    if not rows:
        raise DataError(
            f"nothing to report: no results for families {list(scope.families)}, tasks {list(scope.tasks)}, "
            f"kinds {list(scope.kinds)}, seeds {list(scope.seeds)} below {root / 'outputs'}; "
            "run the pipeline first (gfpet run, or dvc repro)."
        )
    memory: dict[tuple[str, ...], Phases] = {}
    seconds: dict[tuple[str, ...], float] = {}
    keys = [*_instances(scope, TASK_STAGES), *((stage, family) for stage in FAMILY_STAGES for family in scope.families)]
    for key in keys:
        path = root.joinpath("metrics", *key).with_suffix(".json")
        if path.is_file():
            memory[key], seconds[key] = _metrics(path)
        else:
            missing.append(path.relative_to(root).as_posix())
    similarity: list[SimilarityRow] = []
    for family in scope.families:
        path = root / "outputs" / "similarity" / family / "similarity.json"
        metrics = root / "metrics" / "similarity" / f"{family}.json"
        if metrics.is_file():
            seconds["similarity", family] = _metrics(metrics)[1]
        if path.is_file():
            similarity += [row for row in _similarity(path, family) if scope.has(row.task, row.kind, row.seed)]
        else:
            missing.append(path.relative_to(root).as_posix())
    found = sorted([*rows.values(), *_guesses(root, scope)], key=order)
    return Collected(scope, found, memory, seconds, similarity, sorted(missing))


def _guesses(root: Path, scope: Scope) -> Iterator[ResultRow]:
    """Rows of methods `chance` and `majority` for each family, from the evaluation examples alone."""
    for task in scope.tasks:
        path = root / "outputs" / "prepare" / task / "eval.jsonl"
        if not path.is_file():
            continue
        examples = read_examples(path)
        for method, scores in (("chance", chance(task, examples)), ("majority", majority(task, examples))):
            for family in scope.families:
                for metric, value in scores.items():
                    yield ResultRow(
                        family=family, task=task, method=method, metric=metric, value=value, n=len(examples)
                    )


def _instances(scope: Scope, stages: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for stage in stages:
        for family in scope.families:
            for task in scope.tasks:
                yield stage, family, task


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); run its stage again.") from error


def _metrics(path: Path) -> tuple[Phases, float]:
    record = _json(path)
    memory = record.get("memory") if isinstance(record, dict) else None
    if not isinstance(memory, dict) or not all(isinstance(phase, dict) for phase in memory.values()):
        raise DataError(f"{path} has no mapping 'memory' of phases to measurements; run its stage again.")
    return memory, float(record.get("seconds") or 0.0)


def _similarity(path: Path, family: str) -> Iterator[SimilarityRow]:
    try:
        for row in _json(path)["rows"]:
            controls: dict[str, Any] = row.get("controls") or {}
            yield SimilarityRow(
                family=family,
                task=row["task"],
                kind=row["kind"],
                seed=row.get("seed"),
                measure=row["measure"],
                value=finite(row.get("value")),
                controls={name: finite(value) for name, value in controls.items()},
                heatmap=_grid(row.get("heatmap")),
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} has no rows of similarities ({error!r}); run the stage 'similarity' again.") from error


def _grid(cells: Any) -> list[list[float | None]] | None:
    grid = [[finite(cell) for cell in line] for line in cells or []]
    return grid if any(cell is not None for line in grid for cell in line) else None


def finite(value: float | int | None) -> float | None:
    """The value, or None if it is not finite: JSON and tables have no NaN."""
    return float(value) if value is not None and math.isfinite(value) else None


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
