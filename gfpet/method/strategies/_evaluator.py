"""A frozen model asked for its predictions: once for each split, measured as a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import Backbone, Predictions, Split, TaskData, backbone_of, head_of, predict
from gfpet.memory import Meter
from gfpet.method.strategies._result import Scorer
from gfpet.pipeline import Phase

Measure = Callable[[str, Iterable[Any]], AbstractContextManager[Meter]]
"""Measures time and memory of a named phase, as `gfpet.memory.measure` does; models and tensors that are there already
count into the peak."""


@dataclass(frozen=True)
class Insertion:
    """Something put into a model while it is asked."""

    tensors: Sequence[Tensor]
    """On the model's device; they count into the memory of the phase."""
    opened: Callable[[nn.Module, Family], AbstractContextManager[Backbone]]
    """A context that gives the model's forward pass with it."""


class FrozenEvaluator:
    """A frozen model and a task's examples."""

    def __init__(self, loaded: LoadedModel, data: TaskData, measure: Measure, *, batch_size: int) -> None:
        self._loaded, self._data, self._measure, self._batch_size = loaded, data, measure, batch_size
        self.frozen = FrozenModel(loaded.model)

    def plain(self, phase: Phase) -> Scorer:
        """The model as it is."""
        return self.with_insertion(phase, lambda _: Insertion((), _plain))

    def plugged(self, phase: Phase, module: PetModule) -> Scorer:
        """The model with a module."""

        def make(device: torch.device) -> Insertion:
            there = module.to(device, torch.float32)
            return Insertion(tuple(there.tensors.values()), lambda model, family: _with_module(model, family, there))

        return self.with_insertion(phase, make)

    def with_insertion(self, phase: Phase, make: Callable[[torch.device], Insertion]) -> Scorer:
        """The model with anything put into it.

        Args:
            phase: what scoring the evaluation examples is measured as; any other split is measured as `phase.choosing`.
            make: called with the model's device for each split, so that nothing stays on the device in between.
        """
        known: dict[int, tuple[Split, Predictions]] = {}

        def score(split: Split) -> Predictions:
            if id(split) not in known:
                # The split is kept with its predictions, so that no other one can take its id.
                known[id(split)] = split, self._ask(split, phase, make(self._loaded.device))
            return known[id(split)][1]

        return score

    def _ask(self, split: Split, phase: Phase, insertion: Insertion) -> Predictions:
        model, family = self._loaded.model, self._loaded.family
        measured = phase if split is self._data.eval else phase.choosing
        with (
            self._measure(str(measured), [model, *insertion.tensors]) as meter,
            self.frozen.forward_only() as forward,
            insertion.opened(forward, family) as backbone,
        ):
            return predict(
                split.encoded,
                backbone,
                head_of(forward),
                batch_size=self._batch_size,
                pad=self._data.pad,
                step=meter.step,
            )


@contextmanager
def _plain(model: nn.Module, family: Family) -> Iterator[Backbone]:
    yield backbone_of(model, family)


@contextmanager
def _with_module(model: nn.Module, family: Family, module: PetModule) -> Iterator[Backbone]:
    with inserted(model, family, module):
        yield backbone_of(model, family)
