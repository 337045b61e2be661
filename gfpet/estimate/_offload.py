"""L as `models.<family>.large.device_map: auto` leaves it: blocks beyond its memory stay elsewhere until they run.

With real tensors that is accelerate's own work, from a safetensors file. It cannot put fake weights into a module, so
on sizes alone a hook stands in that holds at each moment what accelerate's hook holds.
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
"""Data type of checkpoint files; the larger case, and that of GPT-2 and T5."""


def offload_fake(loaded: LoadedModel, dtype: torch.dtype, device: torch.device, memory: int, real: Path | None) -> None:
    """Keep on the device only what `place` allows.

    Args:
        memory: bytes that the weights may take of the device.
        real: a folder for a checkpoint, if the weights are real; None: they are sizes.
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
    """Brings a part's own weights in before it runs, as they are in a file, and takes them away again."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, offload=True)

    def init_hook(self, module: nn.Module) -> nn.Module:
        """Take the weights away."""
        self._replace(module, _away)
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Bring them in: read, then cast."""

        def read(weight: Tensor) -> Tensor:
            return torch.empty(weight.shape, dtype=_STORED, device=self.execution_device).to(weight.dtype)

        self._replace(module, read)
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        """Take them away."""
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
