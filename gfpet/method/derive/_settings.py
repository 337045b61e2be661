"""Sections `derive` and `heal` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass

from gfpet import config
from gfpet.lm.training import Checkpointing, Settings, loop_settings
from gfpet.method.derive._choose import Choice


@dataclass(frozen=True)
class HealSettings:
    """How a model that was cut out of the large one is healed."""

    loop: Settings
    learning_rate: float
    gradient_checkpointing: Checkpointing


def heal_settings(section: config.Heal) -> HealSettings:
    """From a section `heal`."""
    return HealSettings(loop_settings(section), section.learning_rate, section.gradient_checkpointing)


@dataclass(frozen=True)
class DeriveSettings:
    """How the small model is cut out of the large one."""

    layers: float
    """Blocks that stay: below 1 a part of each stack, from 1 on their number."""
    choice: Choice


def derive_settings(section: config.Derive) -> DeriveSettings:
    """From section `derive`."""
    return DeriveSettings(section.layers, section.choice)
