"""Checks for NaN and infinite values where they arise, so that no wrong score is reported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gfpet.errors import NumberError


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinite values; makes no copy. Integer tensors are always finite."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    # One NaN makes both minimum and maximum NaN.
    ends = torch.stack(torch.aminmax(tensor.detach()))
    return not bool(ends.isfinite().logical_not().any())


def require_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise unless every tensor is finite.

    Args:
        what: what the tensors are; begins the message, e.g. `the module outputs/tune/gpt2/cb/lora-seed0.safetensors`.

    Raises:
        NumberError: names the first tensor that is not finite, how many are not, and the likely cause.
    """
    broken = [name for name, tensor in tensors.items() if not is_finite(tensor)]
    if broken:
        first = tensors[broken[0]]
        raise NumberError(
            f"{what}: {len(broken)} of {len(tensors)} tensors hold NaN or infinite values, the first is '{broken[0]}' "
            f"({str(first.dtype).removeprefix('torch.')}). {likely_cause(first.dtype)}"
        )


def likely_cause(dtype: torch.dtype) -> str:
    """The usual cause of NaN or infinite values in a data type, and what to do."""
    if dtype == torch.float16:
        return (
            "float16 holds at most 65504, and models trained in bfloat16 exceed that: set models.<family>.<size>.dtype "
            "to bfloat16 or float32."
        )
    return "Check the checkpoint's weights for NaN; if a module was trained, lower its learning_rate."
