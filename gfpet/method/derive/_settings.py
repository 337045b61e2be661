"""Sections `derive` and `heal` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass

from gfpet import config
from gfpet.lm.training import Checkpointing, Settings, loop_settings
from gfpet.method.derive._choose import Choice


@dataclass(frozen=True)
class HealSettings:
    """How to heal a model cut out of the large one."""

    loop: Settings
    learning_rate: float
    gradient_checkpointing: Checkpointing


def heal_settings(section: config.Heal) -> HealSettings:
    """From a section `heal`."""
    return HealSettings(loop_settings(section), section.learning_rate, section.gradient_checkpointing)


@dataclass(frozen=True)
class DeriveSettings:
    """How to cut the small model out of the large one."""

    layers: float
    """Blocks to keep: below 1, a fraction of each stack; from 1 on, their number."""
    choice: Choice


def derive_settings(section: config.Derive) -> DeriveSettings:
    """From section `derive`."""
    return DeriveSettings(section.layers, section.choice)
