"""MeZO (Malladi et al. 2023, arXiv:2305.17333): fine-tuning from forward passes, weights perturbed in place.

Here it is one of the methods that ours is compared with: no gradient either, but every weight of L changes, and each
step needs two forward passes of it.
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
    """One step down the two-point estimate of the gradient along one random direction; returns that estimate.

    The direction is drawn anew from its seed each time it is needed, so that it is never held: of all its tensors only
    one is there at a time.

    Args:
        parameters: changed in place.
        loss: of the parameters as they are.
        epsilon: distance of the two points from the parameters.
        seed: of the direction; another one for each step.
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
