"""Stage `derive`: makes a small model from the large one by dropping blocks, or notes which small model is used.

Usage: python -m gfpet.stages.derive FAMILY
"""

from __future__ import annotations

import json
import sys
from typing import Any

from gfpet.config import DERIVE
from gfpet.stages._harness import StageRun, main, stage


def derive(family: str) -> None:
    """Write `source.json` and, if the small model is derived, its checkpoint `small/`."""
    with stage("derive", family) as run:
        checkpoint = getattr(run.params.models, family).small
        if checkpoint.path == DERIVE:
            _derive(run, family)
            return
        # Most runs end here, so nothing heavy is imported before.
        _note(run, {"derived": False, "path": checkpoint.path, "revision": checkpoint.revision})
        run.say(f"models.{family}.small is {checkpoint.path}; nothing to derive")


def _derive(run: StageRun, family: str) -> None:
    from gfpet.lm.models import FrozenModel
    from gfpet.lm.scoring import pad_token
    from gfpet.method.derive import contexts, derive_settings, derive_small
    from gfpet.stages._family import mixed_examples
    from gfpet.stages._heal import healed
    from gfpet.stages._inputs import load_model

    section, params = run.params.derive, run.params
    large = load_model(params, family, "large")
    frozen, pad = FrozenModel(large.model), pad_token(large.tokenizer)
    wanted = max(section.examples, section.heal.examples if section.heal.epochs else 0)
    text = contexts(
        mixed_examples(params, wanted), large.tokenizer, max_length=params.models.max_length, template=large.template
    )
    made = derive_small(large, frozen, text[: section.examples], derive_settings(section), pad=pad, measure=run.measure)
    for stack, change in made.changes.items():
        for block, value in enumerate(change.tolist()):
            run.log_value(f"change/{stack}.{block}", value)
    model, depths = made.small.model, large.family.depths_of(large.model)
    count = sum(weight.numel() for weight in model.parameters())
    for stack, blocks in made.kept.items():
        run.say(f"{stack}: blocks {', '.join(map(str, blocks))} of {depths[stack]} stay; {count:,} parameters in all")
    run.log_value("small_parameters", count)
    if section.heal.epochs:
        healed(run, section.heal, made.small, large, frozen, text[: section.heal.examples], pad=pad)
    run.log_value("large_forward_passes", frozen.forward_passes)
    model.save_pretrained(run.output / "small")  # type: ignore[operator]
    large.tokenizer.save_pretrained(run.output / "small")
    kept = {stack: list(blocks) for stack, blocks in made.kept.items()}
    _note(run, {"derived": True, "kept": kept, "depths": depths})


def _note(run: StageRun, about: dict[str, Any]) -> None:
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    (run.output / "source.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(lambda: derive(*sys.argv[1:]))
