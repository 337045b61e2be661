"""The device that a run computes on."""

from __future__ import annotations

import torch

from gfpet.errors import ModelError


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA if available, else the CPU.

    Raises:
        ModelError: the device is unavailable, or the name is not a device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"models.device is '{name}', which is not available here ({error}). Allowed: auto, cpu, cuda, cuda:N."
        ) from error
    return device
