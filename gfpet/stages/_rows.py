"""Turns predictions into result rows: every official metric of the task, and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfpet.config import Params
from gfpet.data import score
from gfpet.lm.scoring import Predictions, Split
from gfpet.results import PredictionRow, ResultRow
from gfpet.stages._inputs import checkpoint_of


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of one stage instance."""

    params: Params
    family: str
    task: str
    models: tuple[Literal["small", "large"], ...]
    """The models used; the column of the other one stays empty."""

    def rows(
        self,
        method: str,
        predictions: Predictions,
        split: Split,
        *,
        kind: str = "",
        strategy: str = "",
        seed: int | None = None,
    ) -> tuple[list[ResultRow], PredictionRow]:
        """One row per metric, without intervals, and the predictions, from which the report computes intervals."""
        rows = [
            ResultRow(
                family=self.family,
                small=self._path("small"),
                large=self._path("large"),
                task=self.task,
                kind=kind,
                method=method,
                strategy=strategy,
                seed=seed,
                metric=metric,
                value=value,
                n=len(split),
            )
            for metric, value in score(self.task, split.examples, predictions.choices).items()
        ]
        choices = tuple(predictions.choices)
        return rows, PredictionRow(method=method, kind=kind, strategy=strategy, seed=seed, choices=choices)

    def _path(self, role: Literal["small", "large"]) -> str:
        return checkpoint_of(self.params, self.family, role).path if role in self.models else ""
