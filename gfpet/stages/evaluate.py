"""Stage `evaluate`: scores the large model with each transfer strategy; forward only. Algorithm 1, step 6.

Usage: python -m gfpet.stages.evaluate FAMILY TASK
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import TaskData
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection
from gfpet.method.registry import STRATEGIES
from gfpet.method.strategies import (
    FrozenEvaluator,
    Scorer,
    SelectionRecord,
    evaluate_strategies,
    plug_randomly,
    score_small,
)
from gfpet.pipeline import tag_of
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model
from gfpet.stages._rows import RowMaker


def evaluate(family: str, task: str) -> None:
    """Write the rows of methods `zero_shot`, `plugged` (by strategy) and `random_w_plug`, and `chosen.json`."""
    with stage("evaluate", f"{family}/{task}") as run:
        kinds, section = run.params.kinds, run.params.evaluate
        records: dict[str, Any] = {}

        def outputs(name: str) -> Path:
            return OUTPUTS / name / family / task

        def record(tag: str, selection: SelectionRecord) -> None:
            records[tag] = selection.as_dict()
            run.say(f"{tag}: {selection.text()}")
            run.log_value(f"{tag}/auto", selection.selected.strategy)

        # Before loading L: the maps between large models take much memory, the plugged modules little.
        with_random = "random_w_plug" in section.controls
        controls = _random_controls(run, family, outputs("tune")) if kinds and with_random else {}
        with_small = any(name in STRATEGIES and STRATEGIES[name].uses_small for name in section.strategies)
        of_small = _ask_small(run, family, task, outputs("tune")) if kinds and with_small else None
        loaded = load_model(run.params, family, "large")
        data, small = of_small or (load_examples(run.params, task, loaded), {})
        large = FrozenEvaluator(loaded, data, run.measure, batch_size=section.batch_size)
        maker = RowMaker(run.params, family, task, ("small", "large"))
        for each in evaluate_strategies(
            large,
            data,
            partial(_module, outputs("bridge")),
            kinds=kinds,
            seeds=run.params.seeds,
            strategies=section.strategies,
            auto=section.auto,
            zero_shot="zero_shot" in section.controls,
            random_controls=controls,
            small=small,
            outputs=outputs,
            options=section.model_dump(),
            record=record,
        ):
            about = {"kind": each.kind, "strategy": each.strategy}
            run.log_results(*maker.rows(each.method, each.predictions, data.eval, seed=each.seed, **about))
        text = json.dumps(records, indent=1, sort_keys=True) + "\n"
        (run.output / "chosen.json").write_text(text, encoding="utf-8")
        for name, share in data.cut_shares.items():
            run.log_value(f"cut/{name}", share)
        run.log_value("large_forward_passes", large.frozen.forward_passes)
        run.log_value("large_forward_rows", large.frozen.forward_rows)


def _module(folder: Path, tag: str) -> PetModule:
    return PetModule.load(folder / f"{tag}.safetensors")


def _tags(run: StageRun) -> dict[str, int]:
    """The seed of each tag (kind and seed)."""
    return {tag_of(kind, seed): seed for kind in run.params.kinds for seed in run.params.seeds}


def _random_controls(run: StageRun, family: str, folder: Path) -> dict[str, PetModule]:
    """S's modules plugged through random maps, by tag."""
    pairs, found = load_pairs(OUTPUTS / "align" / family / "layers.json"), {}
    for tag, seed in _tags(run).items():
        tuned = _module(folder, tag)
        maps = Projection.load(OUTPUTS / "align" / family / "maps.safetensors", tuned)
        divide = run.params.plug.divide_by_copies
        found[tag] = plug_randomly(tuned, maps, pairs, seed=seed, divide_by_copies=divide)
    return found


def _ask_small(run: StageRun, family: str, task: str, folder: Path) -> tuple[TaskData, dict[str, Scorer]]:
    """The examples, and the small model's predictions for them, by tag. Frees the small model on return."""
    loaded = load_model(run.params, family, "small")
    data = load_examples(run.params, task, loaded)
    small = FrozenEvaluator(loaded, data, run.measure, batch_size=run.params.evaluate.batch_size)
    return data, score_small(small, data, list(_tags(run)), partial(_module, folder))


if __name__ == "__main__":
    main(lambda: evaluate(*sys.argv[1:]))
