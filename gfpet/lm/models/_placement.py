"""Placement of a forward-only model's weights: device, CPU memory, disk.

    embeddings, norms, head    the device: scoring reads rows of the head directly
    blocks, first to last      the device while there is room, then CPU memory (if the device is a GPU), then disk

accelerate copies an offloaded block's weights to the device for its forward pass, and frees them afterwards. gfpet's
hooks are not affected: they see activations on the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from gfpet.errors import ModelError
from gfpet.lm.families import Family
from gfpet.lm.models._memory import free_memory

# The rest is for activations and buffers.
_SHARE = 0.9

DeviceMap = dict[str, str]
"""From a part's attribute path to `cpu`, `cuda:0`, ..., or `disk`."""


def place(
    empty: nn.Module, family: Family, dtype: torch.dtype, device: torch.device, memory: int | None = None
) -> DeviceMap:
    """A device for every part of a model.

    Args:
        empty: the model on the meta device.
        memory: bytes that its weights may take on the device; None takes nine tenths of the free memory.

    Raises:
        ModelError: accelerate is not installed, or embeddings, norms and head do not fit on the device.
    """
    require_library("accelerate", "device_map: auto", "offload")
    room = {str(device): int(free_memory(device) * _SHARE) if memory is None else memory}
    if device.type != "cpu":
        room["cpu"] = int(free_memory(torch.device("cpu")) * _SHARE)
    lists = [stack.blocks for stack in family.stacks]
    placed: DeviceMap = {}
    held: set[int] = set()

    def fixed(path: str, part: nn.Module) -> None:
        """Place a part on the device, except for blocks."""
        if path in lists:
            return
        if any(each.startswith(f"{path}.") for each in lists):
            for name, child in part.named_children():
                fixed(f"{path}.{name}", child)
            return
        placed[path] = str(device)
        room[str(device)] -= _new_bytes(part, dtype, held)

    for name, child in empty.named_children():
        fixed(name, child)
    if room[str(device)] < 0:
        needed = sum(weight.numel() for weight in empty.parameters() if id(weight) in held) * dtype.itemsize
        raise ModelError(
            f"embeddings and head alone need {needed / 1e9:.2f} GB on {device}, which device_map: auto never offloads, "
            f"and {(needed + room[str(device)]) / 1e9:.2f} GB are to be had. Free memory there, raise "
            "models.<family>.large.memory_gb, or set dtype: bfloat16."
        )
    for each in lists:
        for number, block in enumerate(empty.get_submodule(each).children()):
            size = _new_bytes(block, dtype, held)
            place_of = next((name for name, left in room.items() if left >= size), "disk")
            if place_of != "disk":
                room[place_of] -= size
            placed[f"{each}.{number}"] = place_of
    return placed


def _new_bytes(part: nn.Module, dtype: torch.dtype, held: set[int]) -> int:
    """Bytes of a part's weights that are not in `held` yet; adds them to `held`."""
    new = {id(weight): weight.numel() for weight in part.parameters() if id(weight) not in held}
    held.update(new)  # not |=, which would rebind `held` to a new set
    return sum(new.values()) * dtype.itemsize


def quantiser(quantisation: str, dtype: torch.dtype) -> Any:
    """transformers' quantisation configuration for `int8` or `int4`; None for `none`.

    Raises:
        ModelError: bitsandbytes or accelerate is not installed, or bitsandbytes does not support this hardware.
    """
    if quantisation == "none":
        return None
    require_library("bitsandbytes", f"quantisation: {quantisation}", "quantised")
    require_library("accelerate", f"quantisation: {quantisation}", "quantised")
    from transformers import BitsAndBytesConfig

    integrations: Any = import_module("transformers.integrations")
    try:
        integrations.validate_bnb_backend_availability(raise_exception=True)
    except Exception as error:  # the type depends on the backend library
        raise ModelError(
            f"models.<family>.large.quantisation is {quantisation}, and bitsandbytes cannot compute on this hardware "
            f"({error}). Set it to none."
        ) from error
    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)  # type: ignore[no-untyped-call]


def keep_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from changing the layout of 4-bit weights on processors with bfloat16 instructions.

    It would do so at the first forward pass, for some widths only (divisible by 64 and 32). The weights would then be
    unreadable, and results would depend on the processor.
    """
    part: Any
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def require_library(name: str, wanted_by: str, extra: str) -> None:
    """Raise if an optional library is missing.

    Raises:
        ModelError: says which setting needs it and how to install it.
    """
    if find_spec(name) is None:
        raise ModelError(
            f"models.<family>.large: {wanted_by} needs the package {name}, which is not installed: "
            f"pip install -c constraints.txt -e '.[{extra}]'."
        )


@contextmanager
def resident(part: nn.Module) -> Iterator[None]:
    """While open, the part's own weights are on the device, even if they are offloaded."""
    if not hasattr(part, "_hf_hook"):
        yield
        return
    from accelerate.utils import align_module_device

    with align_module_device(part):
        yield


def plain_weight(part: nn.Module, name: str = "weight") -> Tensor:
    """A weight as a plain floating-point tensor: loaded if offloaded, dequantised if quantised."""
    with resident(part):
        weight = part.get_parameter(name)
        return weight.detach() if weight.is_floating_point() else _unpacked(part, weight)


def _unpacked(part: Any, weight: Any) -> Tensor:
    from bitsandbytes import functional

    if weight.dtype == torch.int8:
        scales = part.state.SCB if weight.SCB is None else weight.SCB  # the first forward pass moves the scales there
        unpacked: Tensor = functional.int8_vectorwise_dequant(weight.detach(), scales)
    else:
        unpacked = functional.dequantize_4bit(weight.detach(), part.quant_state)
    # A quantised layer stores outputs first, even one that replaces a Conv1D, as in GPT-2.
    return unpacked if outputs_first(part) else unpacked.T


def outputs_first(linear: nn.Module) -> bool:
    """Whether the `plain_weight` of a linear layer is `[d_out, d_in]`; a Conv1D of transformers has `[d_in, d_out]`."""
    return issubclass(getattr(linear, "source_cls", type(linear)), nn.Linear)


def weight_named(model: nn.Module, name: str) -> Tensor:
    """`plain_weight` of the parameter of that name in the model."""
    path, _, last = name.rpartition(".")
    return plain_weight(model.get_submodule(path), last)


def offloaded(model: nn.Module) -> Mapping[str, int]:
    """Number of parts in each place; empty if all are in one place."""
    counts: dict[str, int] = {}
    for place_of in getattr(model, "hf_device_map", {}).values():
        counts[str(place_of)] = counts.get(str(place_of), 0) + 1
    return counts if len(counts) > 1 else {}
