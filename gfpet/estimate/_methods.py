"""The methods to compare ours with, run under fake tensors: gradients of L, MeZO, ladder side-tuning."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from gfpet.config import Params
from gfpet.estimate._mezo import mezo_step
from gfpet.estimate._recorder import Recorder
from gfpet.estimate._workload import Shape, Workload, make_bridge, shaped
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import inserted
from gfpet.lm.registry import DEFAULT_KINDS
from gfpet.lm.scoring import backbone_of, candidate_scores, collate, head_of, predict, ranking_loss, score_split
from gfpet.lm.training import Hooks, Settings, fit_all, fit_module, start_module
from gfpet.memory import MemoryReading, Resident, measure
from gfpet.method.activation_cache import Plan, recomputed
from gfpet.method.bridge import fit_ladder, laddered, start_ladder
from gfpet.pipeline import Phase


@dataclass(frozen=True)
class Method:
    """One way to adapt L to a task."""

    name: str
    checkpointed: bool = False
    """Whether it uses gradient checkpointing."""

    @property
    def title(self) -> str:
        """Its name in tables."""
        return f"{self.name}, checkpointed" if self.checkpointed else self.name


OTHERS = (
    *(Method(name, again) for name in ("full", *DEFAULT_KINDS) for again in (False, True)),
    Method("mezo"),
    Method("ladder side-tuning"),
)
Peaks = dict[str, MemoryReading]
"""Readings by stage."""


def run_method(
    method: Method, large: Shape, work: Workload, params: Params, *, by_module: bool = False, tune_only: bool = False
) -> Peaks:
    """Peaks of a method's stages: `tune L` and `infer`.

    Args:
        by_module: as in `Recorder`; only for methods by gradients.
        tune_only: skip `infer`; only for methods by gradients.
    """
    dtype = getattr(torch, params.reference.dtype)
    with work.tensors():
        loaded = shaped(large, dtype, work.device)
        if method.name == "mezo":
            return _mezo(loaded, work, params)
        if method.name == "ladder side-tuning":
            return _ladder(loaded, work, params)
        return _gradient(loaded, method, work, params, by_module, tune_only)


def _gradient(
    loaded: LoadedModel, method: Method, work: Workload, params: Params, by_module: bool, tune_only: bool
) -> Peaks:
    data, loop, recorder = work.task(loaded.family), Settings(1, work.batch), Recorder(by_module)
    options: Any = {
        "name": method.name,
        "learning_rate": 1e-4,
        "seed": 0,
        "gradient_checkpointing": method.checkpointed,
        "observer": recorder.observer,
    }
    if method.name == "full":
        fit_all(loaded, data, loop, **options)
        inside: AbstractContextManager[None] = nullcontext()
        resident: list[Resident] = []
    else:
        kind_options = getattr(params.modules, method.name).model_dump()
        module = start_module(method.name, loaded, kind_options, data, seed=0)
        module, _ = fit_module(loaded, module, data, loop, **options)
        inside, resident = inserted(loaded.model, loaded.family, module), [*module.tensors.values()]
    peaks = {"tune L": recorder.readings[str(Phase("train", tag=method.name))]}
    if tune_only:
        return peaks
    with inside:
        return peaks | {"infer": infer(loaded, work, params, *resident)}


def infer(loaded: LoadedModel, work: Workload, params: Params, *resident: Resident) -> MemoryReading:
    """Peak of scoring with a model, forward only.

    Args:
        resident: other tensors in memory.
    """
    size, recorder = params.evaluate.batch_size, Recorder()
    score_split(
        loaded,
        work.split(loaded.family, 1, size),
        phase="infer",
        batch_size=size,
        pad=0,
        measure=recorder.measure,
        resident=resident,
    )
    return recorder.highest


def _mezo(loaded: LoadedModel, work: Workload, params: Params) -> Peaks:
    backbone, head = backbone_of(loaded.model, loaded.family), head_of(loaded.model)
    batch = collate(work.split(loaded.family, 1).encoded, pad=0)

    def loss() -> float:
        return float(ranking_loss(candidate_scores(backbone(batch), head, batch), batch))

    with measure("tune", [loaded.model]) as meter, meter.step(batch.size):
        mezo_step(dict(loaded.model.named_parameters()), loss, learning_rate=1e-6, epsilon=1e-3, seed=0)
    return {"tune L": meter.reading, "infer": infer(loaded, work, params)}


def _ladder(loaded: LoadedModel, work: Workload, params: Params) -> Peaks:
    """Ladder side-tuning with our Bridge as the side network, which inference needs, too; L runs in every step."""
    bridge = make_bridge(loaded, params)
    large, kept = FrozenModel(loaded.model), bridge.kept.residual
    depths = loaded.family.depths_of(loaded.model)
    layers = {stack: tuple(range(depth)) for stack, depth in depths.items()}
    plan = Plan("projected", torch.float32, layers, len(kept), dict.fromkeys(layers, 0))
    ladder = start_ladder(plan, kept, params.bridge.temperature, work.device)
    read, data = recomputed(large, loaded.family, plan, kept), work.task(loaded.family)
    resident: list[Resident] = [loaded.model, bridge.model, *ladder.tensors.values()]
    with measure("tune", resident) as meter:
        fit_ladder(
            bridge,
            loaded.family,
            ladder,
            nullcontext,
            [],
            data,
            read,
            read,
            Settings(1, work.batch),
            bridge_learning_rate=1e-3,
            train_bridge=True,
            seed=0,
            gradient_checkpointing=False,
            hooks=Hooks(step=meter.step, quiet=True),
        )
    with (
        measure("infer", resident) as inferring,
        torch.no_grad(),
        laddered(bridge.model, loaded.family, ladder) as backbone,
    ):
        head = head_of(bridge.model)
        predict(data.eval.encoded, backbone(read), head, batch_size=work.batch, pad=0, step=inferring.step)
    return {"tune L": meter.reading, "infer": inferring.reading}
