"""Stage `evaluate`: the large model with what was learned for it, by each strategy; forward only. Algorithm 1, step 6.

Usage: python -m gfpet.stages.evaluate FAMILY TASK
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from gfpet.lm.modules import PetModule, scaled_by_block
from gfpet.lm.scoring import Split, TaskData
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection, plugged, random_like
from gfpet.method.readout import Readout
from gfpet.method.strategies import (
    DevSelection,
    Scorer,
    StrategyResult,
    sample_batches,
    scale_blocks,
    scale_module,
    select_best,
    strategy_result,
    tune_by_proxy,
)
from gfpet.stages._evaluator import FrozenEvaluator
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model
from gfpet.stages._rows import RowMaker


def evaluate(family: str, task: str) -> None:
    """Write the rows of methods `zero_shot`, `plugged` (by strategy) and `random_w_plug`, and `chosen.json`."""
    with stage("evaluate", f"{family}/{task}") as run:
        section = run.params.evaluate
        # Before L is there: the maps of a large pair are a good part of its size, the plugged modules are not.
        controls = _random(run, family, task) if run.params.kinds and "random_w_plug" in section.controls else {}
        of_small = _small(run, family, task) if run.params.kinds and "proxy_tuning" in section.strategies else None
        loaded = load_model(run.params, family, "large")
        data, small = of_small or (load_examples(run.params, task, loaded), {})
        large = FrozenEvaluator(run, loaded, data)
        maker, selection = RowMaker(run.params, family, task, ("small", "large")), DevSelection(task, data.dev)
        zero = large.plain("infer/zero-shot")
        if "zero_shot" in section.controls:
            run.log_results(*maker.rows("zero_shot", zero(data.eval), data.eval))
        picks: dict[str, Any] = {}
        for seed in run.params.seeds:
            readout = _write(run, large, selection, OUTPUTS / "readout" / family / task, seed)
            for one in readout:
                run.log_results(
                    *maker.rows("plugged", one.score(data.eval), data.eval, strategy=one.strategy, seed=seed)
                )
            for kind in run.params.kinds or ("",):
                name, found = f"seed{seed}", list[StrategyResult]()
                if kind:
                    name = f"{kind}-{name}"
                    module = PetModule.load(OUTPUTS / "bridge" / family / task / f"{name}.safetensors")
                    found = _of_module(run, large, selection, name, seed, module, zero, small, data.train)
                if "auto" in section.strategies:
                    everything = [strategy_result("zero_shot", zero, selection), *found, *readout]
                    among = [one for one in everything if one.strategy in ("zero_shot", *section.auto)]
                    picked = select_best(among)
                    picks[name] = _told(run, name, picked, among, everything)
                    found.append(StrategyResult("auto", picked.score, picked.dev, picked.chosen))
                for one in found:
                    said = one.score(data.eval)
                    rows = maker.rows("plugged", said, data.eval, kind=kind, strategy=one.strategy, seed=seed)
                    run.log_results(*rows)
                if name in controls:
                    said = large.plugged(f"infer-random/{name}", controls[name])(data.eval)
                    run.log_results(*maker.rows("random_w_plug", said, data.eval, kind=kind, seed=seed))
        (run.output / "chosen.json").write_text(json.dumps(picks, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        run.log_value("large_forward_passes", large.frozen.forward_passes)
        run.log_value("large_forward_rows", large.frozen.forward_rows)


def _random(run: StageRun, family: str, task: str) -> dict[str, PetModule]:
    """S's modules plugged through random maps, by `<kind>-seed<seed>`."""
    pairs = load_pairs(OUTPUTS / "align" / family / "layers.json")
    found = {}
    for name, seed in _names(run):
        tuned = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
        maps = Projection.load(OUTPUTS / "align" / family / "maps.safetensors", tuned)
        drawn = random_like(maps, torch.Generator().manual_seed(seed))
        found[name] = plugged(tuned, drawn, pairs, divide_by_copies=run.params.plug.divide_by_copies).detached()
    return found


def _small(run: StageRun, family: str, task: str) -> tuple[TaskData, dict[str, Scorer]]:
    """The examples, and what S says of them: as it is (by an empty name), and tuned (by `<kind>-seed<seed>`).

    S is asked at once and goes before L comes.
    """
    loaded = load_model(run.params, family, "small")
    data = load_examples(run.params, task, loaded)
    evaluator = FrozenEvaluator(run, loaded, data)
    scorers = {"": evaluator.plain("infer-small/zero-shot")}
    for name, _ in _names(run):
        tuned = PetModule.load(OUTPUTS / "tune" / family / task / f"{name}.safetensors")
        scorers[name] = evaluator.plugged(f"infer-small/{name}", tuned)
    for score in scorers.values():
        for split in (data.dev, data.eval):
            score(split)
    return data, scorers


def _names(run: StageRun) -> list[tuple[str, int]]:
    return [(f"{kind}-seed{seed}", seed) for kind in run.params.kinds for seed in run.params.seeds]


def _write(
    run: StageRun, large: FrozenEvaluator, selection: DevSelection, folder: Path, seed: int
) -> list[StrategyResult]:
    """The strategy `readout`, if it is asked for."""
    if "readout" not in run.params.evaluate.strategies:
        return []
    name = f"readout-seed{seed}"
    readout = Readout.load(folder / f"{name}.safetensors")
    return [strategy_result("readout", large.written(f"infer/{name}", readout), selection)]


def _of_module(
    run: StageRun,
    large: FrozenEvaluator,
    selection: DevSelection,
    name: str,
    seed: int,
    module: PetModule,
    zero: Scorer,
    small: dict[str, Scorer],
    train: Split,
) -> list[StrategyResult]:
    """The strategies that use a module of S."""
    strategies, scales = run.params.evaluate.strategies, sorted({1.0, *run.params.evaluate.scales})
    as_it_is = large.plugged(f"infer/{name}", module)
    found: list[StrategyResult | None] = []
    if "algorithm1" in strategies:
        found.append(strategy_result("algorithm1", as_it_is, selection))
    if "scaling" in strategies:

        def scorer(scale: float) -> Scorer:
            if scale == 1.0:
                return as_it_is
            return large.plugged(f"infer-scaling/{name}", module.scaled(scale))

        found.append(scale_module(module.kind, scorer, scales, selection))
    if "blockwise_scaling" in strategies:
        section = run.params.evaluate.blockwise_scaling
        found.append(
            scale_blocks(
                module.kind,
                lambda factors: large.plugged(f"infer-blockwise_scaling/{name}", scaled_by_block(module, factors)),
                sum(map(len, module.layers.values())),
                sample_batches(train, section.steps, section.batch_size, seed),
                learning_rate=section.learning_rate,
                epsilon=section.epsilon,
                seed=seed,
                selection=selection,
            )
        )
    if "proxy_tuning" in strategies:
        found.append(tune_by_proxy(zero, small[name], small[""], scales, selection))
    return [one for one in found if one is not None]


def _told(
    run: StageRun,
    name: str,
    picked: StrategyResult,
    among: Sequence[StrategyResult],
    everything: Sequence[StrategyResult],
) -> dict[str, Any]:
    """What `auto` picked and why, for the log, the metrics and `chosen.json`; and how those it leaves aside did."""
    dev = {one.strategy: one.dev[0] for one in everything}
    said = ", ".join(f"{one.strategy} {100 * one.dev[0]:.1f}" for one in among)
    aside = ", ".join(f"{one.strategy} {100 * one.dev[0]:.1f}" for one in everything if one not in among)
    run.say(
        f"{name}: auto picks {picked.strategy}; held-out scores: {said}" + (f"; left aside: {aside}" if aside else "")
    )
    run.log_value(f"{name}/auto", picked.strategy)
    return {
        "strategy": picked.strategy,
        "among": [one.strategy for one in among],
        "chosen": dict(picked.chosen),
        "dev_score": picked.dev[0],
        "dev_scores": dev,
    }


if __name__ == "__main__":
    main(lambda: evaluate(*sys.argv[1:]))
