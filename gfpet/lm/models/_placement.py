"""Where the weights of a model that only runs forward are kept: device, CPU memory, disk.

    embeddings, norms, head    the device: scoring reads rows of the head directly
    blocks, first to last      the device while there is room, then CPU memory (of a GPU), then disk

accelerate brings a block's weights to the device when its turn comes, and takes them away again. Hooks of gfpet run
outside of that: they see the activations, on the device, as always.
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

# Activations and buffers need room beside the weights.
_SHARE = 0.9

DeviceMap = dict[str, str]
"""By a part's attribute path: `cpu`, `cuda:0`, ..., or `disk`."""


def place(
    empty: nn.Module, family: Family, dtype: torch.dtype, device: torch.device, memory: int | None = None
) -> DeviceMap:
    """A device for every part of a model, told from the model on the meta device.

    Args:
        memory: bytes that its weights may take of the device; None: nine tenths of what is free.

    Raises:
        ModelError: accelerate is not installed, or what has to stay on the device does not fit.
    """
    require_library("accelerate", "device_map: auto", "offload")
    room = {str(device): int(free_memory(device) * _SHARE) if memory is None else memory}
    if device.type != "cpu":
        room["cpu"] = int(free_memory(torch.device("cpu")) * _SHARE)
    lists = [stack.blocks for stack in family.stacks]
    placed: DeviceMap = {}
    held: set[int] = set()

    def fixed(path: str, part: nn.Module) -> None:
        """Everything but the blocks."""
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
    """Bytes of a part's weights that no part before it has."""
    new = {id(weight): weight.numel() for weight in part.parameters() if id(weight) not in held}
    held.update(new)  # not |=: with the keys of a dictionary that makes another set
    return sum(new.values()) * dtype.itemsize


def quantiser(quantisation: str, dtype: torch.dtype) -> Any:
    """transformers' configuration for `int8` or `int4`, None for `none`.

    Raises:
        ModelError: bitsandbytes is not installed, or does not know this hardware.
    """
    if quantisation == "none":
        return None
    require_library("bitsandbytes", f"quantisation: {quantisation}", "quantised")
    require_library("accelerate", f"quantisation: {quantisation}", "quantised")
    from transformers import BitsAndBytesConfig

    integrations: Any = import_module("transformers.integrations")
    try:
        integrations.validate_bnb_backend_availability(raise_exception=True)
    except Exception as error:  # it raises what the library at hand raises
        raise ModelError(
            f"models.<family>.large.quantisation is {quantisation}, and bitsandbytes cannot compute on this hardware "
            f"({error}). Set it to none."
        ) from error
    if quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)  # type: ignore[no-untyped-call]


def keep_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from laying 4-bit weights out anew for processors with bfloat16 instructions.

    It would at the first forward pass, for widths that divide by 64 and 32 only, and the weights could no longer be
    read; and what comes out would depend on the processor.
    """
    part: Any
    for part in model.modules():
        if hasattr(part, "support_avx512bf16_for_cpu"):
            part.support_avx512bf16_for_cpu = False


def require_library(name: str, wanted_by: str, extra: str) -> None:
    """Raise where an optional library is missing.

    Raises:
        ModelError: says what wants it and how it is installed.
    """
    if find_spec(name) is None:
        raise ModelError(
            f"models.<family>.large: {wanted_by} needs the package {name}, which is not installed: "
            f"pip install -c constraints.txt -e '.[{extra}]'."
        )


@contextmanager
def resident(part: nn.Module) -> Iterator[None]:
    """While open, the part's own weights are on the device, wherever they are kept."""
    if not hasattr(part, "_hf_hook"):
        yield
        return
    from accelerate.utils import align_module_device

    with align_module_device(part):
        yield


def plain_weight(part: nn.Module, name: str = "weight") -> Tensor:
    """A weight as numbers that can be computed with: brought in from where it is kept, and unpacked if quantised."""
    with resident(part):
        weight = part.get_parameter(name)
        return weight.detach() if weight.is_floating_point() else _unpacked(part, weight)


def _unpacked(part: Any, weight: Any) -> Tensor:
    from bitsandbytes import functional

    if weight.dtype == torch.int8:
        scales = part.state.SCB if weight.SCB is None else weight.SCB  # the first forward pass moves them
        unpacked: Tensor = functional.int8_vectorwise_dequant(weight.detach(), scales)
    else:
        unpacked = functional.dequantize_4bit(weight.detach(), part.quant_state)
    # Packed, every map keeps its outputs first, also one that stands for a Conv1D, as in GPT-2.
    return unpacked if outputs_first(part) else unpacked.T


def outputs_first(linear: nn.Module) -> bool:
    """Whether the `plain_weight` of a linear map is `[d_out, d_in]`; that of transformers' Conv1D is not."""
    return issubclass(getattr(linear, "source_cls", type(linear)), nn.Linear)


def weight_named(model: nn.Module, name: str) -> Tensor:
    """`plain_weight` by its name in the model."""
    path, _, last = name.rpartition(".")
    return plain_weight(model.get_submodule(path), last)


def offloaded(model: nn.Module) -> Mapping[str, int]:
    """How many parts are kept where, as far as they are not all in one place; empty where they are."""
    counts: dict[str, int] = {}
    for place_of in getattr(model, "hf_device_map", {}).values():
        counts[str(place_of)] = counts.get(str(place_of), 0) + 1
    return counts if len(counts) > 1 else {}
