"""Training-loop settings from a section of `params.yaml`."""

from __future__ import annotations

from gfpet import config
from gfpet.lm.training._loop import Settings


def loop_settings(section: config.Loop) -> Settings:
    """The settings of a section."""
    return Settings(
        epochs=section.epochs,
        batch_size=section.batch_size,
        accumulation=section.accumulation,
        schedule=section.schedule,
        warmup=section.warmup,
        weight_decay=section.weight_decay,
        clip=section.clip,
        patience=section.patience,
        checkpoint_every=section.checkpoint_every,
    )
