"""Models whose predictions stage `evaluate` compares: each asked once for a split, measured as a phase.

A phase `infer...` is what scoring the evaluation examples takes; the same name with `choose` for `infer`, what held-out
examples take, and zeroth-order steps: choosing belongs to the time that adapting takes, evaluating does not.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import Predictions, Split, TaskData, backbone_of, head_of, predict
from gfpet.method.readout import Readout, with_readout
from gfpet.method.strategies import Scorer
from gfpet.stages._harness import StageRun


class FrozenEvaluator:
    """A frozen model and a task's examples."""

    def __init__(self, run: StageRun, loaded: LoadedModel, data: TaskData) -> None:
        self._run, self._loaded, self._data = run, loaded, data
        self.frozen = FrozenModel(loaded.model)

    def plain(self, phase: str) -> Scorer:
        """The model as it is."""
        return self._asked_once(lambda split: self._ask(split, phase))

    def plugged(self, phase: str, module: PetModule) -> Scorer:
        """The model with a module."""
        return self._asked_once(lambda split: self._ask(split, phase, module=module))

    def written(self, phase: str, readout: Readout) -> Scorer:
        """The model with a readout."""
        return self._asked_once(lambda split: self._ask(split, phase, readout=readout))

    def _asked_once(self, ask: Callable[[Split], Predictions]) -> Scorer:
        known: dict[int, Predictions] = {}

        def score(split: Split) -> Predictions:
            if id(split) not in known:
                known[id(split)] = ask(split)
            return known[id(split)]

        return score

    def _ask(
        self, split: Split, phase: str, *, module: PetModule | None = None, readout: Readout | None = None
    ) -> Predictions:
        model, family = self._loaded.model, self._loaded.family
        module = module and module.to(self._loaded.device, torch.float32)
        readout = readout and readout.to(self._loaded.device)
        if split is not self._data.eval:
            phase = phase.replace("infer", "choose", 1)
        tensors = [*(module.tensors.values() if module else ()), *(readout.tensors.values() if readout else ())]
        with (
            self._run.measure(phase, resident=[model, *tensors]) as meter,
            self.frozen.forward_only() as forward,
            ExitStack() as opened,
        ):
            if module:
                opened.enter_context(inserted(forward, family, module))
            backbone = (
                opened.enter_context(with_readout(forward, family, readout))
                if readout
                else backbone_of(forward, family)
            )
            return predict(
                split.encoded,
                backbone,
                head_of(forward),
                batch_size=self._run.params.evaluate.batch_size,
                pad=self._data.pad,
                step=meter.step,
            )
