"""Estimates all methods for one pair of models, one after the other or in parallel processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from gfpet.config import Params
from gfpet.errors import GfpetError
from gfpet.estimate._methods import OTHERS, Method, Peaks, run_method
from gfpet.estimate._ours import kind_stages, shared_stages
from gfpet.estimate._workload import Shape, Workload
from gfpet.memory import Category
from gfpet.pipeline import PEAK_NAMES

OURS = "gfpet"
STAGES = PEAK_NAMES
"""All stages in the order of the pipeline; each method uses some of them."""


@dataclass(frozen=True)
class Estimate:
    """Estimated peak memory of one method."""

    method: str
    kind: str
    """Kind of module, for our method; empty for the others."""
    checkpointed: bool
    stages: Mapping[str, int]
    """Peak of live bytes, by stage."""
    split: Mapping[Category, int]
    """Bytes by category at the highest of these peaks."""

    @property
    def peak(self) -> int:
        """The maximum over all stages, in bytes."""
        return max(self.stages.values())

    @property
    def highest(self) -> str:
        """The stage with the maximum."""
        return max(self.stages, key=lambda stage: self.stages[stage])

    @property
    def title(self) -> str:
        """Its name in tables."""
        name = f"{self.method}, {self.kind}" if self.method == OURS else self.method
        return f"{name}, checkpointed" if self.checkpointed else name


def estimate(method: str, kind: str, checkpointed: bool, peaks: Peaks) -> Estimate:
    """Make an `Estimate` from the readings of a method's stages."""
    sizes = {stage: peaks[stage].cpu_live_peak_bytes or 0 for stage in STAGES if stage in peaks}
    highest = max(sizes, key=lambda stage: sizes[stage])
    return Estimate(method, kind, checkpointed, sizes, peaks[highest].cpu_live_split or {})


def estimate_methods(
    small: Shape,
    large: Shape,
    work: Workload,
    params: Params,
    *,
    others: Sequence[Method] = OTHERS,
    kinds: Collection[str] | None = None,
    workers: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> list[Estimate]:
    """Estimate every method in `others`, then ours with each kind of module.

    Args:
        kinds: kinds of module for ours; by default those of the parameters.
        workers: number of processes.
        say: told the name of each finished job.

    Raises:
        GfpetError: the two models are of different families.
    """
    if small.family != large.family:
        raise GfpetError(
            f"{small.name} is of family '{small.family}', {large.name} of '{large.family}': a pair is of one family."
        )
    chosen = list(params.kinds if kinds is None else kinds)
    # Checkpointing does not affect inference, so a checkpointed method takes `infer` from its plain twin.
    twins = {method: Method(method.name) for method in others if method.checkpointed and Method(method.name) in others}
    # Long jobs first, to balance the processes.
    jobs: list[tuple[str, Callable[..., Peaks], tuple[Any, ...]]] = [
        *((f"{OURS}/{kind}", kind_stages, (kind, small, large, work, params)) for kind in chosen),
        *((f"{OURS}", shared_stages, (small, large, work, params)) for _ in chosen[:1]),
        *(
            (method.title, partial(run_method, tune_only=method in twins), (method, large, work, params))
            for method in others
        ),
    ]
    peaks: dict[str, Peaks] = {}
    if workers == 1:
        for name, run, arguments in jobs:
            peaks[name] = run(*arguments)
            say(name)
    else:
        # Spawn: torch's threads do not survive a fork.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
            waiting = {name: pool.submit(run, *arguments) for name, run, arguments in jobs}
            for name, job in waiting.items():
                peaks[name] = job.result()
                say(name)
    for method, plain in twins.items():
        peaks[method.title] |= {"infer": peaks[plain.title]["infer"]}
    found = [estimate(method.name, "", method.checkpointed, peaks[method.title]) for method in others]
    for kind in chosen:
        found.append(estimate(OURS, kind, False, peaks[OURS] | peaks[f"{OURS}/{kind}"]))
    return found


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
