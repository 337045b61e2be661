"""Stage `similarity`: compares the modules tuned on S with those tuned on L by gradients, with null controls.

Usage: python -m gfpet.stages.similarity FAMILY
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch

from gfpet.lm.models import FrozenModel, require_same_tokenizer
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection
from gfpet.pipeline import Phase, tag_of
from gfpet.similarity import Comparison, ModelPair, TunedModules, compare_modules
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model


def similarity(family: str) -> None:
    """Write `similarity.json`: `{"rows": [...]}`, one row per task, kind, seed and measure."""
    with stage("similarity", family) as run:
        found = Comparison() if run.carries_nothing() else _compare(run, family)
        text = json.dumps({"rows": found.rows}, indent=1, allow_nan=False) + "\n"
        (run.output / "similarity.json").write_text(text, encoding="utf-8")


def _compare(run: StageRun, family: str) -> Comparison:
    params = run.params
    small, large = load_model(params, family, "small"), load_model(params, family, "large")
    require_same_tokenizer(small, large)
    models = ModelPair(
        small,
        large,
        FrozenModel(large.model),
        Projection.load(OUTPUTS / "align" / family / "maps.safetensors"),
        load_pairs(OUTPUTS / "align" / family / "layers.json"),
    )
    of_small, of_large = (partial(_module, name, family, small.device) for name in ("tune", "reference"))
    modules = TunedModules(params.tasks, params.kinds, params.seeds, of_small, of_large)
    with run.measure(str(Phase("similarity")), resident=[small.model, large.model]) as meter:
        found = compare_modules(
            models,
            modules,
            lambda task: load_examples(params, task, small),
            examples=params.similarity.examples,
            max_length=params.models.max_length,
            null_samples=params.similarity.null_samples,
            step=meter.step,
        )
    if found.missing:
        run.say(f"no pair of modules for {', '.join(found.missing)} (reference.methods says what L is tuned with)")
    if not found.rows:
        run.say("nothing to compare: similarity.json has no rows")
    for name, value in found.means().items():
        run.log_value(name, value)
    run.log_value("comparisons", len(found.rows))
    return found


def _module(stage_name: str, family: str, device: torch.device, task: str, kind: str, seed: int) -> PetModule | None:
    """A tuned module; None if its stage did not write one."""
    path = OUTPUTS / stage_name / family / task / f"{tag_of(kind, seed)}.safetensors"
    return PetModule.load(path).to(device, torch.float32) if path.is_file() else None


if __name__ == "__main__":
    main(lambda: similarity(*sys.argv[1:]))
