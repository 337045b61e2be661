"""Checks whether a model fits in memory before reading any weights."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch
from torch import nn

from gfpet.errors import ModelError

# Control groups, version 2 and version 1: files with the memory limit and the memory in use.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_BITS = {"none": None, "int8": 8, "int4": 4}


def free_memory(device: torch.device) -> int:
    """Free bytes on a device; for the CPU, the lesser of the machine's and the control group's free memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free: int = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no control groups of this version, or "max" (no limit)
            continue
    return int(max(free, 0))


def weight_bytes(empty: nn.Module, dtype: torch.dtype, quantisation: str = "none") -> int:
    """Bytes of a model's weights, from the model on the meta device; tied weights count once.

    Quantisation shrinks only the linear layers inside blocks; embeddings, norms and head keep `dtype`.
    """
    bits = _BITS[quantisation]
    whole: int = sum(parameter.numel() for parameter in empty.parameters())
    if bits is None:
        return int(whole * dtype.itemsize)
    head = empty.get_output_embeddings()  # type: ignore[operator]
    linear = sum(part.weight.numel() for part in empty.modules() if isinstance(part, nn.Linear) and part is not head)
    return int(linear * bits // 8 + (whole - linear) * dtype.itemsize)


def require_memory(name: str, empty: nn.Module, dtype: torch.dtype, quantisation: str, device: torch.device) -> None:
    """Raise if the weights alone exceed the free memory.

    Args:
        name: the model's name, for the message.
        empty: the model on the meta device, made from its configuration.

    Raises:
        ModelError: says how much memory is needed, how much is free, and which settings need less.
    """
    needed, free = weight_bytes(empty, dtype, quantisation), free_memory(device)
    if needed <= free:
        return
    count = sum(parameter.numel() for parameter in empty.parameters())
    raise ModelError(
        f"{name} is too large: its {count / 1e9:.2f} billion weights need {needed / 1e9:.1f} GB as "
        f"{str(dtype).removeprefix('torch.')}{'' if quantisation == 'none' else f' with {quantisation}'}, and "
        f"{free / 1e9:.1f} GB are free on {device}. Of models.<family>.<size>: {_less(empty, dtype, quantisation)}"
        "device_map: auto leaves what does not fit in memory on disk (the large model only); or take a smaller model."
    )


def _less(empty: nn.Module, dtype: torch.dtype, quantisation: str) -> str:
    """Settings that need less memory, with their needs."""
    told = []
    if dtype.itemsize > 2:
        told.append(f"dtype: bfloat16 needs {weight_bytes(empty, torch.bfloat16, quantisation) / 1e9:.1f} GB; ")
    if quantisation == "none":
        told.append(f"quantisation: int4 {weight_bytes(empty, torch.bfloat16, 'int4') / 1e9:.1f} GB; ")
    return "".join(told)
