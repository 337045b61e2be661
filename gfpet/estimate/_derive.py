"""Stage `derive`, run on sizes alone with the functions that its program calls."""

from __future__ import annotations

from gfpet.config import Heal, Params
from gfpet.errors import ModelError
from gfpet.estimate._methods import settings
from gfpet.estimate._workload import Shape, Workload
from gfpet.lm.families import find_family
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import batches
from gfpet.lm.training import Hooks, wants_checkpointing
from gfpet.memory import MemoryReading, measure
from gfpet.method.derive import LOOKED_AT, READ_AT_ONCE, block_changes, evenly, heal, with_blocks


def derived_shape(large: Shape, params: Params) -> Shape:
    """The sizes of the small model that `derive` makes of the large one; which blocks stay does not matter here.

    Raises:
        ModelError: the family does not say how its configurations are cut.
        ConfigError: `derive.layers` is more than there are.
    """
    family = find_family(large.family).for_config(large.config)
    if family.thinned is None:
        raise ModelError(f"family {family.name} does not say how a model with fewer blocks is made of its models.")
    depths = {name: stack.layers for name, stack in family.dims(large.config).stacks.items()}
    config = family.thinned(large.config, evenly(depths, params.derive.layers))
    return Shape(f"{large.name} with fewer blocks", large.family, config)


def derive_peak(large: LoadedModel, work: Workload, params: Params) -> MemoryReading:
    """Choosing the blocks, cutting the others out and healing what is left: the largest of the three."""
    section, family, frozen = params.derive, large.family, FrozenModel(large.model)
    readings = []
    if section.choice != "even":
        count = min(READ_AT_ONCE, section.examples)
        # Of the batches, as many as it takes until enough tokens were seen; `cka` holds them all.
        needed = -(-min(LOOKED_AT, section.examples * work.length) // (count * work.length))
        text = work.split(family, needed, count).encoded
        with measure("choose", [large.model]) as meter:
            block_changes(
                frozen,
                family,
                (batch for _, batch in batches(text, size=count, pad=0)),
                section.choice,
                tokens=LOOKED_AT,
                step=meter.step,
            )
        readings.append(meter.reading)
    kept = evenly(family.depths_of(large.model), section.layers)
    with measure("cut", [large.model]) as cutting, cutting.step():
        small = LoadedModel(with_blocks(large.model, family, kept), family, large.tokenizer, "derived")
    readings.append(cutting.reading)
    if section.heal.epochs:
        readings.append(heal_reading(small, large, frozen, work, section.heal))
    return max(readings, key=lambda reading: reading.cpu_live_peak_bytes or 0)


def heal_reading(
    cut: LoadedModel, large: LoadedModel, frozen: FrozenModel, work: Workload, section: Heal
) -> MemoryReading:
    """Distilling the large model into one that was cut out of it."""
    size = section.batch_size
    with measure("heal", [cut.model, large.model]) as meter:
        heal(
            cut,
            frozen,
            work.split(large.family, 2, size).encoded,
            work.split(large.family, 1, size).encoded,
            settings(size),
            pad=0,
            learning_rate=section.learning_rate,
            gradient_checkpointing=wants_checkpointing(section.gradient_checkpointing, cut.model),
            hooks=Hooks(step=meter.step, quiet=True),
        )
    return meter.reading
