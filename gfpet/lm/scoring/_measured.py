"""Scoring a split as a measured phase; stages call it, and so does the memory estimate."""

from __future__ import annotations

from collections.abc import Iterable

from gfpet.lm.models import LoadedModel
from gfpet.lm.scoring._score import Predictions, backbone_of, head_of, predict
from gfpet.lm.scoring._task_data import Split
from gfpet.memory import Measure, Resident


def score_split(
    loaded: LoadedModel,
    split: Split,
    *,
    phase: str,
    batch_size: int,
    pad: int,
    measure: Measure,
    resident: Iterable[Resident] = (),
) -> Predictions:
    """Score a split with the model and the modules that the caller inserted; forward only.

    Args:
        phase: its name in the metrics, e.g. `infer/lora-seed0`.
        resident: what else is in memory from the start, besides the model.
    """
    with measure(phase, resident=[loaded.model, *resident]) as meter:
        return predict(
            split.encoded,
            backbone_of(loaded.model, loaded.family),
            head_of(loaded.model),
            batch_size=batch_size,
            pad=pad,
            step=meter.step,
        )
