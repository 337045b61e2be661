"""Healing in a stage: a model cut out of the large one learns its next-token distributions on unlabelled text."""

from __future__ import annotations

from collections.abc import Sequence

from gfpet.config import Heal
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import EncodedExample
from gfpet.method.derive import heal_cut, heal_settings
from gfpet.stages._fit import log_outcome, observer
from gfpet.stages._harness import StageRun

# One tenth of the texts is held out.
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
    """Heal `cut` in place and log the outcome; the large model, `frozen`, runs forward only."""
    split = len(text) - max(1, len(text) // _HELD_OUT)
    outcome = heal_cut(
        cut, large, frozen, text[:split], text[split:], heal_settings(section), pad=pad, observer=observer(run)
    )
    log_outcome(run, "heal", outcome)
    run.log_value("heal/dev_divergence", outcome.best_loss)
    run.say(
        f"healed on {split} texts: the most likely next token is L's in {100 * outcome.best_score:.1f} % of held-out "
        f"tokens, {outcome.best_loss:.3f} nats from L"
    )
