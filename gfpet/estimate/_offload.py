"""Offload of L, as with `models.<family>.large.device_map: auto`: blocks beyond `memory_gb` are loaded when they run.

With real tensors, accelerate offloads to a safetensors file. It cannot put fake weights into a module, so under fake
tensors a hook here takes its place and holds the same memory at each moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from safetensors.torch import save_file
from torch import Tensor, nn

from gfpet.lm.models import LoadedModel, place

_STORED = torch.float32
"""Data type of checkpoint files: that of GPT-2 and T5, and the larger case."""


def offload_fake(loaded: LoadedModel, dtype: torch.dtype, device: torch.device, memory: int, real: Path | None) -> None:
    """Offload all weights that `place` does not put on the device.

    Args:
        memory: bytes of the device for weights.
        real: folder for a checkpoint of real weights; None for fake ones.
    """
    placed = place(loaded.model, loaded.family, dtype, device, memory)
    away = [path for path, where in placed.items() if where != str(device)]
    if not away:
        return
    if real is None:
        for path in away:
            for part in loaded.model.get_submodule(path).modules():
                if part._parameters:
                    add_hook_to_module(part, _Offloaded(device), append=True)
        return
    file = real / "large.safetensors"
    prefixes = tuple(f"{path}." for path in away)
    weights = {name: weight for name, weight in loaded.model.named_parameters() if name.startswith(prefixes)}
    save_file({name: weight.to(_STORED) for name, weight in weights.items()}, file)
    kept = {"safetensors_file": str(file), "dtype": str(dtype).removeprefix("torch.")}
    index = {name: {**kept, "weight_name": name} for name in weights}
    del weights
    dispatch_model(loaded.model, placed, main_device=str(device), offload_index=index, offload_dir=str(real))


class _Offloaded(AlignDevicesHook):  # type: ignore[misc]
    """Loads a part's own weights before it runs, as from a file, and removes them afterwards."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, offload=True)

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Remove the weights."""
        self._replace(module, _away)
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Load the weights: read, then cast."""

        def read(weight: Tensor) -> Tensor:
            return torch.empty(weight.shape, dtype=_STORED, device=self.execution_device).to(weight.dtype)

        self._replace(module, read)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Remove the weights."""
        self._replace(module, _away)
        return output

    @staticmethod
    def _replace(module: nn.Module, new: Any) -> None:
        for name, weight in _own(module):
            module._parameters[name] = nn.Parameter(new(weight), requires_grad=False)


def _own(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return [(name, weight) for name, weight in module._parameters.items() if weight is not None]


def _away(weight: Tensor) -> Tensor:
    return torch.empty(weight.shape, dtype=weight.dtype, device="meta")
