"""Stage `align`: closed-form `W_plug` between the activations of S and L, and the layer assignment; forward only.

Usage: python -m gfpet.stages.align FAMILY
"""

from __future__ import annotations

import sys

from gfpet.data.examples import Example
from gfpet.errors import DataError
from gfpet.lm.families import stack_of
from gfpet.lm.models import FrozenModel, require_same_tokenizer
from gfpet.lm.modules import targets_by_kind
from gfpet.lm.scoring import Batch, EncodedExample, batches, pad_token
from gfpet.method.align import (
    explained,
    fit_maps,
    identity_maps,
    layer_groups,
    layer_likeness,
    map_shapes,
    read_through,
    save_pairs,
    spaces_for,
)
from gfpet.method.plug import MapsWriter, layer_assignment
from gfpet.stages._family import derived_pairs, mixed_examples
from gfpet.stages._harness import StageRun, main, stage
from gfpet.stages._inputs import load_model

# Tokens that decide the layer assignment `cka`.
_CKA_TOKENS = 2000
# One text in so many is held out to measure how well the maps do.
_HELD_OUT = 10


def align(family: str) -> None:
    """Write `maps.safetensors` and `layers.json`; nothing where nothing is carried over."""
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
        pad = pad_token(small.tokenizer)
        frozen = FrozenModel(large.model)
        depths = [each.family.depths_of(each.model) for each in (small, large)]
        with run.measure("align", resident=[small.model, large.model]) as meter:
            likeness = None
            if section.layer_assignment == "cka":
                likeness = layer_likeness(
                    small, frozen, _batches(text[:split], pad, section.batch_size), tokens=_CKA_TOKENS
                )
            if section.layer_assignment == "derived":
                pairs = derived_pairs(family)
            else:
                pairs = layer_assignment(section.layer_assignment, depths[0], depths[1], likeness)
            modules = run.params.modules
            options = {kind: getattr(modules, kind).model_dump() for kind in run.params.kinds}
            targets = targets_by_kind(small.family, options)
            reads, writes = spaces_for(targets)
            asked = {"reads": reads, "writes": writes}
            centre = section.centre and section.method != "identity"
            file = MapsWriter(run.output / "maps.safetensors", map_shapes(small, large, pairs, **asked, centre=centre))
            found: dict[str, list[tuple[float, int]]] = {}
            budget = int(section.budget_gb * 1e9)
            groups = list(layer_groups(pairs, small.family, small.model, large.model, **asked, budget=budget))
            for group, start in groups:
                here = {name: {space for space in spaces if stack_of(space) in group} for name, spaces in asked.items()}
                if section.method == "identity":
                    maps = identity_maps(small, large, group, **here)
                else:
                    maps = fit_maps(
                        small,
                        frozen,
                        _batches(text[:split], pad, section.batch_size),
                        group,
                        **here,
                        method=section.method,
                        ridge=section.ridge,
                        centre=centre,
                        step=meter.step,
                    )
                file.write(maps, start)
                held_out = _batches(text[split:], pad, section.batch_size)
                for name, value in explained(maps, small, frozen, held_out, group, step=meter.step).items():
                    found.setdefault(name, []).append((value, sum(map(len, group.values()))))
                del maps
        # Means over layers, whatever groups they were fitted in.
        quality = {name: sum(v * n for v, n in of) / sum(n for _, n in of) for name, of in sorted(found.items())}
        save_pairs(run.output / "layers.json", pairs, name=section.layer_assignment, small=depths[0], large=depths[1])
        for name, value in quality.items():
            run.log_value(f"r2/{name}", value)
        run.log_value("texts", len(text))
        run.log_value("passes", len(groups))
        run.log_value("large_forward_passes", frozen.forward_passes)
        count = sum(map(len, pairs.values()))
        run.say(f"{count} pairs of layers, {len(quality)} maps each, from {split} texts; held out: {_worst(quality)}")


def _examples(run: StageRun) -> list[Example]:
    """The texts that both models read.

    Raises:
        DataError: too few of them, so that none can be held out.
    """
    taken = mixed_examples(run.params, run.params.align.examples)
    if len(taken) < _HELD_OUT:
        raise DataError(
            f"align has {len(taken)} training texts; it needs at least {_HELD_OUT}. "
            "Raise align.examples, prepare.train_size or the number of tasks."
        )
    return taken


def _batches(text: list[EncodedExample], pad: int, size: int) -> list[Batch]:
    # In the text's own order: by length, the layer assignment `cka` would look at the longest task only.
    return [batch for _, batch in batches(text, size=size, pad=pad, order=range(len(text)))]


def _worst(quality: dict[str, float]) -> str:
    name = min(quality, key=lambda each: quality[each])
    return f"R² {sum(quality.values()) / len(quality):.2f} in the mean, {quality[name]:.2f} at worst ({name})"


if __name__ == "__main__":
    main(lambda: align(*sys.argv[1:]))
