"""Bootstrap intervals of the result rows, computed from the stages' saved predictions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from gfpet.data import intervals, read_examples
from gfpet.pipeline import RESULT_STAGES
from gfpet.report._collect import Collected
from gfpet.results import PredictionKey, PredictionRow, ResultRow, read_predictions, read_results

# One seed for all runs: then two runs' intervals differ by their models alone.
_SEED = 0


def with_intervals(collected: Collected, root: Path, *, confidence: float, resamples: int) -> Collected:
    """Fill in the intervals of all rows with saved predictions.

    Args:
        collected: from `collect` with the same root.
        root: folder of `outputs/`.
        confidence: fraction of the resamples between the two ends.
        resamples: number of bootstrap resamples.

    Raises:
        DataError: a prediction file is broken, or does not match the evaluation examples.
    """
    scope, missing = collected.scope, set(collected.missing)
    found: dict[tuple[str, str, PredictionKey, str], tuple[float, float]] = {}
    for task in scope.tasks:
        path = root / "outputs" / "prepare" / task / "eval.jsonl"
        examples = read_examples(path) if path.is_file() else []
        for stage, family in ((stage, family) for stage in RESULT_STAGES for family in scope.families):
            folder = root / "outputs" / stage / family / task
            predictions = folder / "predictions.jsonl"
            if predictions.is_file() and examples:
                for row in _of_scope(read_predictions(predictions), collected, task):
                    ends = intervals(task, examples, row.choices, confidence, resamples, _SEED)
                    found |= {(family, task, row.key, metric): each for metric, each in ends.items()}
            elif (folder / "results.json").is_file() and read_results(folder / "results.json"):
                missing.add((predictions if examples else path).relative_to(root).as_posix())
    return replace(collected, rows=[_with(row, found) for row in collected.rows], missing=sorted(missing))


def _of_scope(rows: Iterable[PredictionRow], collected: Collected, task: str) -> Iterable[PredictionRow]:
    return (row for row in rows if collected.scope.has(task, row.kind, row.seed))


def _with(row: ResultRow, found: dict[tuple[str, str, PredictionKey, str], tuple[float, float]]) -> ResultRow:
    key = (row.method, row.kind, row.strategy, row.seed)
    low, high = found.get((row.family, row.task, key, row.metric), (row.ci_low, row.ci_high))
    return replace(row, ci_low=low, ci_high=high)
