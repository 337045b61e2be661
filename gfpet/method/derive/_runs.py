"""The work of stage `derive` as measured phases; stage `prune` shares the healing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import EncodedExample, batches
from gfpet.lm.training import Observer, Outcome, wants_checkpointing
from gfpet.memory import Measure
from gfpet.method.derive._choose import LOOKED_AT, READ_AT_ONCE, block_changes, choose_blocks, evenly
from gfpet.method.derive._cut import Blocks, with_blocks
from gfpet.method.derive._heal import heal
from gfpet.method.derive._settings import DeriveSettings, HealSettings


@dataclass(frozen=True)
class Derived:
    """A small model made of blocks of the large one."""

    small: LoadedModel
    kept: Blocks
    changes: Mapping[str, Float[Tensor, " n"]]
    """By stack, how much each block of the large model changes its input (`block_changes`); empty for `even`."""


def derive_small(
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    settings: DeriveSettings,
    *,
    pad: int,
    measure: Measure,
) -> Derived:
    """Choose the blocks to keep and cut out the others; phases `choose` (unless `even`) and `cut`.

    Args:
        frozen: the large model, which counts its forward passes.
        text: texts for the choice, read in order.

    Raises:
        ConfigError: `settings.layers` exceeds the large model's depth.
        ModelError: the family does not support fewer blocks (`Family.thinned`).
    """
    changes: Mapping[str, Tensor] = {}
    if settings.choice == "even":
        kept = evenly(large.family.depths_of(large.model), settings.layers)
    else:
        # Only the first tokens count, so keep the text's own order, which mixes the tasks.
        found = batches(text, size=READ_AT_ONCE, pad=pad, order=range(len(text)))
        read = [batch.to(large.device) for _, batch in found]
        with measure("choose", resident=[large.model]) as meter:
            changes = block_changes(frozen, large.family, read, settings.choice, tokens=LOOKED_AT, step=meter.step)
        kept = choose_blocks(changes, settings.layers)
    with measure("cut", resident=[large.model]) as meter, meter.step():
        model = with_blocks(large.model, large.family, kept)
    small = LoadedModel(model, large.family, large.tokenizer, f"{large.name} with fewer blocks")
    return Derived(small, kept, changes)


def heal_cut(
    cut: LoadedModel,
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample],
    settings: HealSettings,
    *,
    pad: int,
    observer: Observer,
) -> Outcome:
    """Heal in place a model cut out of the large one; phase `heal`. The large model runs forward only.

    Args:
        frozen: the large model, which counts its forward passes.
        held_out: texts to choose the best epoch on.
    """
    with observer.measure("heal", resident=[cut.model, large.model]) as meter:
        return heal(
            cut,
            frozen,
            text,
            held_out,
            settings.loop,
            pad=pad,
            learning_rate=settings.learning_rate,
            gradient_checkpointing=wants_checkpointing(settings.gradient_checkpointing, cut.model),
            hooks=observer.hooks("heal", meter),
        )
