"""All methods for one pair of models: each in turn, or side by side in processes of their own."""

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
"""In the order of the pipeline; a method goes through some of them."""


@dataclass(frozen=True)
class Estimate:
    """What a method takes."""

    method: str
    kind: str
    """Of the module; empty for methods without one."""
    checkpointed: bool
    stages: Mapping[str, int]
    """Peak of live bytes by stage."""
    split: Mapping[Category, int]
    """What the highest of these peaks is made of."""

    @property
    def peak(self) -> int:
        """The maximum over all stages."""
        return max(self.stages.values())

    @property
    def highest(self) -> str:
        """The stage that the maximum is in."""
        return max(self.stages, key=lambda stage: self.stages[stage])

    @property
    def title(self) -> str:
        """As tables show it."""
        name = f"{self.method}, {self.kind}" if self.method == OURS else self.method
        return f"{name}, checkpointed" if self.checkpointed else name


def estimate(method: str, kind: str, checkpointed: bool, peaks: Peaks) -> Estimate:
    """From the readings of a method's stages."""
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
    """Every method that ours is compared with, then ours with each kind of module.

    Args:
        kinds: of ours; by default those of the parameters.
        workers: processes.
        say: told what has been done.

    Raises:
        GfpetError: the two models are of different families.
    """
    if small.family != large.family:
        raise GfpetError(
            f"{small.name} is of family '{small.family}', {large.name} of '{large.family}': a pair is of one family."
        )
    chosen = list(params.kinds if kinds is None else kinds)
    # Checkpointing changes nothing forward only.
    twins = {method: Method(method.name) for method in others if method.checkpointed and Method(method.name) in others}
    # The long ones first, so that no process is left with one at the end.
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
        # Not forked: torch's threads would not survive it.
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
