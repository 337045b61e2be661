"""Predictions to result rows: every official metric of the task, and their mean, with intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gfpet.config import Params
from gfpet.data import interval, score
from gfpet.lm.scoring import Predictions, Split
from gfpet.results import ResultRow
from gfpet.stages._inputs import checkpoint_of

# The resamples behind an interval do not depend on the run's seed: two seeds differ by their models alone.
_INTERVAL_SEED = 0


@dataclass(frozen=True)
class RowMaker:
    """Makes the rows of one stage instance."""

    params: Params
    family: str
    task: str
    models: tuple[Literal["small", "large"], ...]
    """Which models took part; the columns of the others stay empty."""

    def rows(
        self,
        method: str,
        said: Predictions,
        split: Split,
        *,
        kind: str = "",
        strategy: str = "",
        seed: int | None = None,
    ) -> list[ResultRow]:
        """One row a metric."""
        about = ResultRow(
            family=self.family,
            small=self._path("small"),
            large=self._path("large"),
            task=self.task,
            kind=kind,
            method=method,
            strategy=strategy,
            seed=seed,
            metric="",
            value=0.0,
            n=len(split),
        )
        rows = []
        for metric, value in score(self.task, split.examples, said.choices).items():
            low, high = interval(
                self.task,
                split.examples,
                said.choices,
                metric,
                confidence=self.params.evaluate.confidence,
                resamples=self.params.evaluate.resamples,
                seed=_INTERVAL_SEED,
            )
            rows.append(replace(about, metric=metric, value=value, ci_low=low, ci_high=high))
        return rows

    def _path(self, role: Literal["small", "large"]) -> str:
        return checkpoint_of(self.params, self.family, role).path if role in self.models else ""
