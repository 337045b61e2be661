"""MeZO (Malladi et al. 2023, arXiv:2305.17333): fine-tuning by forward passes, with weights perturbed in place.

It serves as a comparison to our method: it needs no gradient either, but it changes every weight of L, and each step
takes two forward passes of L.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def mezo_step(
    parameters: Mapping[str, Tensor],
    loss: Callable[[], float],
    *,
    learning_rate: float,
    epsilon: float,
    seed: int,
) -> float:
    """One descent step along a random direction; returns the two-point estimate of the slope in that direction.

    The direction is redrawn from its seed at each use, so that only one of its tensors is in memory at a time.

    Args:
        parameters: changed in place.
        loss: gives the loss at the current parameters.
        epsilon: the loss is taken at `parameters ± epsilon · direction`.
        seed: of the direction; use a new one for each step.
    """
    with torch.inference_mode():
        _move(parameters, seed, epsilon)
        above = loss()
        _move(parameters, seed, -2 * epsilon)
        below = loss()
        slope = (above - below) / (2 * epsilon)
        _move(parameters, seed, epsilon - learning_rate * slope)
    return slope


def _move(parameters: Mapping[str, Tensor], seed: int, by: float) -> None:
    generators: dict[torch.device, torch.Generator] = {}
    for parameter in parameters.values():
        device = parameter.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        direction = torch.randn(parameter.shape, generator=generators[device], device=device, dtype=parameter.dtype)
        parameter.add_(direction, alpha=by)
