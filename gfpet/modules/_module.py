"""The module: named tensors with a layer axis. What is tuned, compared, projected, plugged, stored and exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfpet.errors import ModuleError
from gfpet.families import stack_of

KindName = Literal["lora", "adapter", "prefix"]
FORMAT = "gfpet-module-2"
_ABOUT = "gfpet"


@dataclass(frozen=True)
class PetModule:
    """The trained parameter-efficient part of one model on one task.

    Shapes: the first axis of every tensor is the layers of its stack, `len(layers[stack])` (docs/design.md lists the
    others for each kind).
    """

    kind: KindName
    family: str
    layers: Mapping[str, tuple[int, ...]]
    """The blocks that it sits in, by stack; entry i of each tensor belongs to block `layers[stack][i]`."""
    tensors: Mapping[str, Tensor]
    """By `<site>.<part>`, e.g. `attn.q.A`."""
    scale: float = 1.0
    """Factor on its effect; alpha / rank for LoRA, unused by a prefix."""

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            stack = stack_of(name)
            if stack not in self.layers:
                raise ModuleError(
                    f"module tensor '{name}' is of stack '{stack}', but the module sits in: {', '.join(self.layers)}."
                )
            if tensor.shape[0] != len(self.layers[stack]):
                raise ModuleError(
                    f"module tensor '{name}' has {tensor.shape[0]} layers, but the module sits in "
                    f"{len(self.layers[stack])} blocks of stack '{stack}'."
                )

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> PetModule:
        """The same module with other tensors."""
        return replace(self, tensors=dict(tensors))

    def to(self, device: torch.device, dtype: torch.dtype) -> PetModule:
        """The same module on another device, in another data type."""
        return self.with_tensors({name: tensor.to(device, dtype) for name, tensor in self.tensors.items()})

    def scaled(self, factor: float) -> PetModule:
        """The same module with its effect times a factor; a prefix has no such effect and stays as it is."""
        return replace(self, scale=self.scale * factor)

    def detached(self) -> PetModule:
        """A copy that shares nothing with this one and has no autograd graph."""
        return self.with_tensors({name: tensor.detach().clone() for name, tensor in self.tensors.items()})

    @property
    def parameters(self) -> int:
        """Number of values."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file; the same module gives the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"format": FORMAT, "kind": self.kind, "family": self.family, "layers": self.layers, "scale": self.scale}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.tensors.items())}
        # One key only: safetensors writes several in an order that changes from call to call.
        save_file(tensors, path, metadata={_ABOUT: json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> PetModule:
        """Read what `save` wrote.

        Raises:
            ModuleError: the file is missing, broken or not a module of gfpet.
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        except Exception as error:  # safetensors raises its own untyped errors
            raise ModuleError(f"cannot read the module {path}: {error}") from error
        if about.get("format") != FORMAT:
            found = about.get("format", "none")
            raise ModuleError(f"{path} is not a module of gfpet: format '{found}', expected '{FORMAT}'.")
        return cls(
            kind=about["kind"],
            family=about["family"],
            layers={stack: tuple(blocks) for stack, blocks in about["layers"].items()},
            tensors=tensors,
            scale=about["scale"],
        )
