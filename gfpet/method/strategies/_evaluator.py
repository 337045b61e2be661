"""Predictions of a frozen model: computed once per split, measured as a phase."""

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
"""Measures time and memory of a named phase, as `gfpet.memory.measure` does. The second argument lists models and
tensors already in memory; they count into the peak."""


@dataclass(frozen=True)
class Insertion:
    """Tensors that change a model's forward pass, and how."""

    tensors: Sequence[Tensor]
    """On the model's device; they count into the phase's memory."""
    opened: Callable[[nn.Module, Family], AbstractContextManager[Backbone]]
    """Opens a context that yields the changed forward pass."""


class FrozenEvaluator:
    """A frozen model and a task's examples; makes scorers."""

    def __init__(self, loaded: LoadedModel, data: TaskData, measure: Measure, *, batch_size: int) -> None:
        self._loaded, self._data, self._measure, self._batch_size = loaded, data, measure, batch_size
        self.frozen = FrozenModel(loaded.model)

    def plain(self, phase: Phase) -> Scorer:
        """Scorer of the plain model."""
        return self.with_insertion(phase, lambda _: Insertion((), _plain))

    def plugged(self, phase: Phase, module: PetModule) -> Scorer:
        """Scorer of the model with a module."""

        def make(device: torch.device) -> Insertion:
            there = module.to(device, torch.float32)
            return Insertion(tuple(there.tensors.values()), lambda model, family: _with_module(model, family, there))

        return self.with_insertion(phase, make)

    def with_insertion(self, phase: Phase, make: Callable[[torch.device], Insertion]) -> Scorer:
        """Scorer of the model with an insertion.

        Args:
            phase: measures the scoring of the evaluation examples; `phase.choosing` measures any other split.
            make: called with the model's device for each split, so that nothing stays on the device in between.
        """
        known: dict[int, tuple[Split, Predictions]] = {}

        def score(split: Split) -> Predictions:
            if id(split) not in known:
                # Keep the split with its predictions, so that no other split can reuse its id.
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
