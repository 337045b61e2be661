"""The body of stage `evaluate`: zero-shot, every strategy, `auto`, and the control with random maps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Predictions, TaskData
from gfpet.method.plug import LayerAssignment, Projection, plugged, random_like
from gfpet.method.registry import AUTO, STRATEGIES
from gfpet.method.strategies._auto import SelectionRecord, choose_among
from gfpet.method.strategies._context import PluggedModule, SmallScorers, StrategyContext
from gfpet.method.strategies._evaluator import FrozenEvaluator
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, strategy_result
from gfpet.pipeline import ZERO_SHOT, Phase, tag_of


@dataclass(frozen=True)
class Evaluated:
    """One method's predictions for the evaluation examples."""

    method: str
    """`zero_shot`, `plugged` or `random_w_plug`."""
    predictions: Predictions
    kind: str = ""
    strategy: str = ""
    seed: int | None = None


def evaluate_strategies(
    large: FrozenEvaluator,
    data: TaskData,
    modules: Callable[[str], PetModule],
    *,
    kinds: Sequence[str],
    seeds: Sequence[int],
    strategies: Collection[str],
    auto: Collection[str],
    zero_shot: bool,
    random_controls: Mapping[str, PetModule],
    small: Mapping[str, Scorer],
    outputs: Callable[[str], Path],
    options: Mapping[str, Any],
    record: Callable[[str, SelectionRecord], None],
) -> Iterator[Evaluated]:
    """Evaluate every strategy on the large model; forward passes only.

    Args:
        modules: gives the plugged module of a tag (`tag_of(kind, seed)`).
        kinds: kinds of module; empty if no module comes from S.
        strategies: names in `gfpet.method.registry.STRATEGIES`, and `auto`.
        auto: the strategies that `auto` chooses among.
        zero_shot: whether to yield the plain large model, too.
        random_controls: modules plugged through random maps, by tag.
        small: the small model's scorers by tag, the plain one under the empty tag; empty if no strategy needs them.
        outputs: gives the output folder of a stage for this family and task.
        options: section `evaluate` of params.yaml.
        record: called with each tag and the choice of `auto` for it.
    """
    selection = DevSelection(data.task, data.dev)
    zero = large.plain(Phase("infer", tag=ZERO_SHOT))
    if zero_shot:
        yield Evaluated("zero_shot", zero(data.eval))
    for seed in seeds:
        context = StrategyContext(large, zero, data.train, selection, seed, options, outputs)
        shared = _built(strategies, context)
        for one in shared:
            yield Evaluated("plugged", one.score(data.eval), "", one.strategy, seed)
        for kind in kinds or ("",):
            tag, found = tag_of(kind, seed), list[StrategyResult]()
            if kind:
                found = _built(strategies, _with_module(context, kind, modules(tag), small))
            if AUTO in strategies:
                # Ties go to the first: plain L, then strategies with a module, then the others.
                every = [strategy_result("zero_shot", zero, selection), *found, *shared]
                chosen, about = choose_among(every, auto)
                record(tag, about)
                found.append(chosen)
            for one in found:
                yield Evaluated("plugged", one.score(data.eval), kind, one.strategy, seed)
            if tag in random_controls:
                score = large.plugged(Phase("infer", "random", tag), random_controls[tag])
                yield Evaluated("random_w_plug", score(data.eval), kind, seed=seed)


def _built(asked: Collection[str], context: StrategyContext) -> list[StrategyResult]:
    """Build the requested strategies: those with a module if the context has a kind, else those without one."""
    built = [
        strategy.load()(context)
        for strategy in list(STRATEGIES.values())
        if strategy.name in asked and strategy.uses_module == bool(context.kind) and strategy.applies_to(context.kind)
    ]
    return [result for result in built if result is not None]


def _with_module(
    context: StrategyContext, kind: str, module: PetModule, small: Mapping[str, Scorer]
) -> StrategyContext:
    tag = tag_of(kind, context.seed)
    score = context.large.plugged(Phase("infer", tag=tag), module)
    scorers = SmallScorers(small[""], small[tag]) if small else None
    return replace(context, kind=kind, plugged=PluggedModule(module, score), small=scorers)


def score_small(
    small: FrozenEvaluator, data: TaskData, tags: Sequence[str], tuned: Callable[[str], PetModule]
) -> dict[str, Scorer]:
    """The small model's predictions for `dev` and `eval`: plain (under the empty tag), and with its modules.

    The scorers hold only predictions, so the caller can free the small model.

    Args:
        tuned: gives the small model's module of a tag.
    """
    scorers = {"": small.plain(Phase("infer", "small", ZERO_SHOT))}
    scorers |= {tag: small.plugged(Phase("infer", "small", tag), tuned(tag)) for tag in tags}
    return {tag: _predicted(score, data) for tag, score in scorers.items()}


def _predicted(score: Scorer, data: TaskData) -> Scorer:
    known = [(split, score(split)) for split in (data.dev, data.eval)]
    return lambda split: next(predictions for each, predictions in known if each is split)


def plug_randomly(
    tuned: PetModule, maps: Projection, pairs: LayerAssignment, *, seed: int, divide_by_copies: bool
) -> PetModule:
    """The control `random_w_plug`: S's module plugged through random maps with the shapes of the fitted ones."""
    drawn = random_like(maps, torch.Generator().manual_seed(seed))
    return plugged(tuned, drawn, pairs, divide_by_copies=divide_by_copies).detached()
