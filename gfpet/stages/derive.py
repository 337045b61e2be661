"""Stage `derive`: a small model out of the large one, by dropping blocks; or a note of which small model is used.

Usage: python -m gfpet.stages.derive FAMILY
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from gfpet.config import DERIVE
from gfpet.stages._harness import StageRun, main, stage

if TYPE_CHECKING:
    from gfpet.lm.models import LoadedModel
    from gfpet.lm.scoring import Batch, EncodedExample


def derive(family: str) -> None:
    """Write `source.json`, and where the small model is derived, its checkpoint `small/`."""
    with stage("derive", family) as run:
        checkpoint = getattr(run.params.models, family).small
        if checkpoint.path == DERIVE:
            _derive(run, family)
            return
        # Nothing heavy is imported: most runs come here, and only wait for it.
        _note(run, {"derived": False, "path": checkpoint.path, "revision": checkpoint.revision})
        run.say(f"models.{family}.small is {checkpoint.path}; nothing to derive")


def _derive(run: StageRun, family: str) -> None:
    from gfpet.lm.models import FrozenModel, LoadedModel
    from gfpet.lm.scoring import pad_token
    from gfpet.method.derive import LOOKED_AT, block_changes, choose_blocks, contexts, evenly, with_blocks
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
    depths = large.family.depths_of(large.model)
    if section.choice == "even":
        kept = evenly(depths, section.layers)
    else:
        with run.measure("choose", resident=[large.model]) as meter:
            changes = block_changes(
                frozen,
                large.family,
                _batches(text[: section.examples], large, pad),
                section.choice,
                tokens=LOOKED_AT,
                step=meter.step,
            )
        kept = choose_blocks(changes, section.layers)
        for stack, change in changes.items():
            for block, value in enumerate(change.tolist()):
                run.log_value(f"change/{stack}.{block}", value)
    model = with_blocks(large.model, large.family, kept)
    small = LoadedModel(model, large.family, large.tokenizer, f"{large.name} with fewer blocks")
    count = sum(weight.numel() for weight in model.parameters())
    for stack, blocks in kept.items():
        run.say(f"{stack}: blocks {', '.join(map(str, blocks))} of {depths[stack]} stay; {count:,} parameters in all")
    run.log_value("small_parameters", count)
    if section.heal.epochs:
        healed(run, section.heal, small, large, frozen, text[: section.heal.examples], pad=pad)
    run.log_value("large_forward_passes", frozen.forward_passes)
    model.save_pretrained(run.output / "small")  # type: ignore[operator]
    large.tokenizer.save_pretrained(run.output / "small")
    _note(run, {"derived": True, "kept": {stack: list(blocks) for stack, blocks in kept.items()}, "depths": depths})


def _batches(text: list[EncodedExample], large: LoadedModel, pad: int) -> list[Batch]:
    from gfpet.lm.scoring import batches
    from gfpet.method.derive import READ_AT_ONCE

    # In the text's own order, which mixes the tasks: the first tokens decide.
    return [batch.to(large.device) for _, batch in batches(text, size=READ_AT_ONCE, pad=pad, order=range(len(text)))]


def _note(run: StageRun, about: dict[str, Any]) -> None:
    text = json.dumps(about, indent=1, sort_keys=True) + "\n"
    (run.output / "source.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(lambda: derive(*sys.argv[1:]))
