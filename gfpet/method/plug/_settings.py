"""Section `plug` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfpet import config


@dataclass(frozen=True)
class PlugSettings:
    """How `W_plug` starts, and which part of it is trained."""

    initialisation: Literal["closed_form", "random"] = "closed_form"
    sharing: Literal["per_layer", "shared"] = "per_layer"
    update: Literal["auto", "full", "low_rank", "none"] = "auto"
    update_rank: int = 16
    divide_by_copies: bool = True


def plug_settings(section: config.Plug) -> PlugSettings:
    """From section `plug`."""
    return PlugSettings(
        initialisation=section.initialisation,
        sharing=section.sharing,
        update=section.update,
        update_rank=section.update_rank,
        divide_by_copies=section.divide_by_copies,
    )
