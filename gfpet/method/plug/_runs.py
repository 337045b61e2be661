"""`W_plug` before training, and a module plugged through it."""

from __future__ import annotations

import torch

from gfpet.lm.modules import PetModule
from gfpet.memory import Measure
from gfpet.method.plug._layers import LayerAssignment
from gfpet.method.plug._plugged import plugged, random_like
from gfpet.method.plug._projection import Projection
from gfpet.method.plug._settings import PlugSettings
from gfpet.pipeline import Phase


def start_w_plug(maps: Projection, settings: PlugSettings, *, seed: int, device: torch.device) -> Projection:
    """`W_plug` before training: closed-form or random maps, per layer or shared by all layers.

    Args:
        maps: the closed form, perhaps still in its file (`Projection.open`); read only if a setting needs its values.
        seed: of the random maps.
        device: of the random maps.
    """
    if settings.initialisation == "random":
        maps = random_like(maps, torch.Generator().manual_seed(seed)).to(device, torch.float32)
    return maps.shared() if settings.sharing == "shared" else maps


def plug_untrained(
    module: PetModule,
    maps: Projection,
    pairs: LayerAssignment,
    settings: PlugSettings,
    *,
    name: str,
    seed: int,
    measure: Measure,
) -> PetModule:
    """The module in the large model's spaces, through `W_plug` before training; phase `plug/<name>`.

    Args:
        maps: the closed form, in its file (`Projection.open`).
    """
    device = next(iter(module.tensors.values())).device
    with measure(str(Phase("plug", tag=name)), resident=module.tensors.values()) as meter, meter.step():
        w_plug = start_w_plug(maps, settings, seed=seed, device=device)
        return plugged(module, w_plug, pairs, divide_by_copies=settings.divide_by_copies).detached()
