"""Whether a model fits, found out before any of its weights is read."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch
from torch import nn

from gfpet.errors import ModelError

# Of control groups, version 2 and version 1: the limit and what is used of it.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_BITS = {"none": None, "int8": 8, "int4": 4}


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; of the CPU, what the machine and the control group both still give."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free: int = psutil.virtual_memory().available
    for limit, used in _CGROUPS:
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such version, or "max": no limit
            continue
    return int(max(free, 0))


def weight_bytes(empty: nn.Module, dtype: torch.dtype, quantisation: str = "none") -> int:
    """Bytes of a model's weights, told from a model on the meta device; tied weights count once.

    Quantised models keep embeddings, norms and head in `dtype`; only the linear maps inside blocks shrink.
    """
    bits = _BITS[quantisation]
    whole: int = sum(parameter.numel() for parameter in empty.parameters())
    if bits is None:
        return int(whole * dtype.itemsize)
    head = empty.get_output_embeddings()  # type: ignore[operator]
    linear = sum(part.weight.numel() for part in empty.modules() if isinstance(part, nn.Linear) and part is not head)
    return int(linear * bits // 8 + (whole - linear) * dtype.itemsize)


def require_memory(name: str, empty: nn.Module, dtype: torch.dtype, quantisation: str, device: torch.device) -> None:
    """Raise where the weights alone are more than what is free.

    Args:
        name: of the model, for the message.
        empty: the model on the meta device, as its configuration says.

    Raises:
        ModelError: says how much is needed, how much there is, and what would need less.
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
    """Settings that need less, with what they need."""
    told = []
    if dtype.itemsize > 2:
        told.append(f"dtype: bfloat16 needs {weight_bytes(empty, torch.bfloat16, quantisation) / 1e9:.1f} GB; ")
    if quantisation == "none":
        told.append(f"quantisation: int4 {weight_bytes(empty, torch.bfloat16, 'int4') / 1e9:.1f} GB; ")
    return "".join(told)
