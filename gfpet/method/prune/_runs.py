"""The work of stage `prune` as measured phases: importance, choice of coordinates, cut."""

from __future__ import annotations

from collections.abc import Iterable

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Batch, head_of
from gfpet.memory import Measure, Step
from gfpet.method.prune._cut import Bridge, choose, cut, reduced_dims
from gfpet.method.prune._importance import (
    Importance,
    activation_importance,
    fisher_importance,
    magnitude_importance,
)
from gfpet.method.prune._settings import PruneSettings


def cut_bridge(large: LoadedModel, batches: Iterable[Batch], settings: PruneSettings, *, measure: Measure) -> Bridge:
    """Cut the Bridge; phases `importance-<importance>` and `cut`.

    Args:
        batches: on the model's device; read once, or never for `magnitude`.

    Raises:
        ModelError: the factor is below 1, or the model cannot be pruned.
    """
    less = reduced_dims(large.family.dims(large.model.config), settings.factor, settings.reduction)
    with measure(f"importance-{settings.importance}", resident=[large.model]) as meter:
        importance = _importance(large, batches, settings, meter.step)
    kept = choose(importance, less, large.family)
    with measure("cut", resident=[large.model]) as meter, meter.step():
        return Bridge(cut(large.model, large.family, less, kept), less, kept)


def _importance(large: LoadedModel, batches: Iterable[Batch], settings: PruneSettings, step: Step) -> Importance:
    if settings.importance == "magnitude":
        with step(0):
            return magnitude_importance(large.model, large.family)
    if settings.importance == "activation":
        return activation_importance(FrozenModel(large.model), large.family, batches, step=step)
    return fisher_importance(large.model, large.family, head_of(large.model), batches, step=step)
