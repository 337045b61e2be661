"""Healing in a stage: a model that was cut out of the large one learns its next-token distributions, without labels."""

from __future__ import annotations

from collections.abc import Sequence

from gfpet.config import Heal
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import EncodedExample
from gfpet.lm.training import wants_checkpointing
from gfpet.method.derive import heal
from gfpet.stages._fit import log_outcome, training_hooks
from gfpet.stages._harness import StageRun
from gfpet.stages._inputs import settings_of

# One text in so many is held out of healing.
_HELD_OUT = 10


def healed(
    run: StageRun,
    section: Heal,
    cut: LoadedModel,
    large: LoadedModel,
    frozen: FrozenModel,
    text: Sequence[EncodedExample],
    *,
    pad: int,
) -> None:
    """Train `cut` in place, measured as a phase; the large model, `frozen`, runs forward only."""
    split = len(text) - max(1, len(text) // _HELD_OUT)
    with run.measure("heal", resident=[cut.model, large.model]) as meter:
        outcome = heal(
            cut,
            frozen,
            text[:split],
            text[split:],
            settings_of(section),
            pad=pad,
            learning_rate=section.learning_rate,
            gradient_checkpointing=wants_checkpointing(section.gradient_checkpointing, cut.model),
            hooks=training_hooks(run, "heal", meter),
        )
    log_outcome(run, "heal", outcome)
    run.log_value("heal/dev_divergence", outcome.best_loss)
    run.say(
        f"healed on {split} texts: the most likely next token is L's in {100 * outcome.best_score:.1f} % of held-out "
        f"tokens, {outcome.best_loss:.3f} nats from L"
    )
