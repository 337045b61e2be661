"""Stage `reference`: tunes the large model by gradients, as the upper bound. Only `fisher` pruning needs them, too.

Usage: python -m gfpet.stages.reference FAMILY TASK
"""

from __future__ import annotations

import sys

from gfpet.lm.scoring import Predictions, TaskData, score_split
from gfpet.lm.training import fit_all, loop_settings
from gfpet.pipeline import Phase
from gfpet.stages._fit import log_outcome, observer, tune_kind
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import load_examples, load_model
from gfpet.stages._rows import RowMaker


def reference(family: str, task: str) -> None:
    """Write the large model's modules, and the rows of methods `gradient` (a module) and `full`."""
    with stage("reference", f"{family}/{task}") as run:
        section, params = run.params.reference, run.params
        modules = [method for method in section.methods if method != "full"]
        run.log_results([])
        if not section.methods:
            run.say("reference.methods is empty: no gradients of the large model, and no columns that need them.")
            return
        large = load_model(params, family, "large", dtype=section.dtype)
        data = load_examples(params, task, large)
        maker = RowMaker(params, family, task, ("large",))
        for kind in [kind for kind in params.kinds or modules if kind in modules]:
            for seed in params.seeds:
                rate = section.learning_rate[kind]
                predictions = tune_kind(run, large, data, section, kind=kind, seed=seed, rate=rate)
                run.log_results(*maker.rows("gradient", predictions, data.eval, kind=kind, seed=seed))
        del large
        if "full" in section.methods:
            for seed in params.seeds:
                predictions = _full(run, family, data, seed)
                run.log_results(*maker.rows("full", predictions, data.eval, seed=seed))


def _full(run: StageRun, family: str, data: TaskData, seed: int) -> Predictions:
    """Full fine-tuning. It changes the model's own weights, so it loads a fresh model each time."""
    section, name = run.params.reference, f"full-seed{seed}"
    large = load_model(run.params, family, "large", dtype=section.dtype)
    outcome = fit_all(
        large,
        data,
        loop_settings(section),
        name=name,
        learning_rate=section.learning_rate["full"],
        seed=seed,
        gradient_checkpointing=section.gradient_checkpointing,
        observer=observer(run),
    )
    log_outcome(run, name, outcome)
    return score_split(
        large,
        data.eval,
        phase=str(Phase("infer", tag=name)),
        batch_size=section.batch_size,
        pad=data.pad,
        measure=run.measure,
    )


if __name__ == "__main__":
    main(lambda: reference(*sys.argv[1:]))
