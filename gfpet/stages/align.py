"""Stage `align`: closed-form `W_plug` between the activations of S and L, and the layer assignment; forward only.

Usage: python -m gfpet.stages.align FAMILY
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from gfpet.data.examples import Example
from gfpet.errors import DataError
from gfpet.lm.models import FrozenModel, require_same_tokenizer
from gfpet.lm.modules import targets_by_kind
from gfpet.lm.scoring import pad_token
from gfpet.method.align import align_models, align_settings, read_through, save_pairs, spaces_for
from gfpet.stages._family import derived_pairs, mixed_examples
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import load_model

# One tenth of the texts is held out to measure the maps' R².
_HELD_OUT = 10


def align(family: str) -> None:
    """Write `maps.safetensors` and `layers.json`; nothing if `kinds` is empty."""
    with stage("align", family) as run:
        if run.carries_nothing():
            return
        section = run.params.align
        small, large = load_model(run.params, family, "small"), load_model(run.params, family, "large")
        require_same_tokenizer(small, large)
        text = read_through(
            _examples(run), small.tokenizer, max_length=run.params.models.max_length, template=small.template
        )
        split = len(text) - len(text) // _HELD_OUT
        targets = targets_by_kind(
            small.family, {kind: getattr(run.params.modules, kind).model_dump() for kind in run.params.kinds}
        )
        reads, writes = spaces_for(targets)
        frozen, name = FrozenModel(large.model), section.layer_assignment
        aligned = align_models(
            small,
            large,
            frozen,
            text[:split],
            text[split:],
            derived_pairs(family) if name == "derived" else name,
            align_settings(section),
            reads=reads,
            writes=writes,
            file=run.output / "maps.safetensors",
            pad=pad_token(small.tokenizer),
            measure=run.measure,
        )
        depths = [each.family.depths_of(each.model) for each in (small, large)]
        save_pairs(run.output / "layers.json", aligned.pairs, name=name, small=depths[0], large=depths[1])
        for map_name, value in aligned.quality.items():
            run.log_value(f"r2/{map_name}", value)
        run.log_value("texts", len(text))
        run.log_value("passes", aligned.passes)
        run.log_value("large_forward_passes", frozen.forward_passes)
        count = sum(map(len, aligned.pairs.values()))
        run.say(
            f"{count} pairs of layers, {len(aligned.quality)} maps each, from {split} texts; "
            f"held out: {_summary(aligned.quality)}"
        )


def _examples(run: StageRun) -> list[Example]:
    """The texts that both models read.

    Raises:
        DataError: there are too few to hold one of them out.
    """
    taken = mixed_examples(run.params, run.params.align.examples)
    if len(taken) < _HELD_OUT:
        raise DataError(
            f"align has {len(taken)} training texts; it needs at least {_HELD_OUT}. "
            "Raise align.examples, prepare.train_size or the number of tasks."
        )
    return taken


def _summary(quality: Mapping[str, float]) -> str:
    name = min(quality, key=lambda each: quality[each])
    return f"R² {sum(quality.values()) / len(quality):.2f} in the mean, {quality[name]:.2f} at worst ({name})"


if __name__ == "__main__":
    main(lambda: align(*sys.argv[1:]))
