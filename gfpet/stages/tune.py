"""Stage `tune`: tunes a module on the frozen small model for each kind and seed, and scores the small model with it.

Algorithm 1, step 1 of the paper. Usage: python -m gfpet.stages.tune FAMILY TASK
"""

from __future__ import annotations

import sys

from gfpet.stages._fit import tune_kind
from gfpet.stages._harness import main, stage
from gfpet.stages._inputs import load_examples, load_model
from gfpet.stages._rows import RowMaker


def tune(family: str, task: str) -> None:
    """Write `<kind>-seed<seed>.safetensors` and the rows of method `small_tuned`."""
    with stage("tune", f"{family}/{task}") as run:
        run.log_results([])
        if run.carries_nothing():
            return
        section = run.params.tune
        small = load_model(run.params, family, "small")
        data = load_examples(run.params, task, small)
        for name, share in data.cut_shares.items():
            run.log_value(f"cut/{name}", share)
        maker = RowMaker(run.params, family, task, ("small",))
        for kind in run.params.kinds:
            for seed in run.params.seeds:
                rate = section.learning_rate[kind]
                predictions = tune_kind(run, small, data, section, kind=kind, seed=seed, rate=rate)
                run.log_results(*maker.rows("small_tuned", predictions, data.eval, kind=kind, seed=seed))


if __name__ == "__main__":
    main(lambda: tune(*sys.argv[1:]))
