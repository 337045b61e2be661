"""Sections `bridge` and `plug` of `params.yaml` as plain settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from gfpet import config
from gfpet.lm.training import Checkpointing, Settings, loop_settings
from gfpet.method.plug import PlugSettings, plug_settings


@dataclass(frozen=True)
class BridgeSettings:
    """The joint training of module, `W_plug`, `W_down` and Bridge."""

    loop: Settings
    learning_rate: float
    """Of the module and its maps."""
    bridge_learning_rate: float
    """Of the Bridge's own weights and its ladder."""
    train_bridge: bool
    gradient_checkpointing: Checkpointing
    w_down: Literal["auto", "learned", "selection"]
    temperature: float
    """T of the ladder's gate sigmoid(a / T)."""
    plug: PlugSettings
    store: Literal["auto", "full", "projected", "recompute"]
    """How to keep the large model's activations (`gfpet.method.activation_cache`)."""
    dtype: torch.dtype
    """Data type of the cached activations."""
    budget: int
    """Bytes on disk for the activations."""


def bridge_settings(section: config.Bridge, plug: config.Plug) -> BridgeSettings:
    """From the sections `bridge` and `plug`."""
    return BridgeSettings(
        loop=loop_settings(section),
        learning_rate=section.learning_rate,
        bridge_learning_rate=section.bridge_learning_rate,
        train_bridge=section.train_bridge,
        gradient_checkpointing=section.gradient_checkpointing,
        w_down=section.w_down,
        temperature=section.temperature,
        plug=plug_settings(plug),
        store=section.activations.store,
        dtype=getattr(torch, section.activations.dtype),
        budget=int(section.activations.budget_gb * 1e9),
    )
