"""The module: named tensors with a layer axis. Code tunes, compares, projects, plugs, stores and exports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from gfpet.errors import ModuleError, unknown
from gfpet.lm.families import stack_of
from gfpet.lm.registry import KIND_NAMES
from gfpet.lm.tensor_file import load_tensors, save_tensors

FORMAT = "gfpet-module-2"


@dataclass(frozen=True)
class PetModule:
    """The trained parameter-efficient part of one model on one task.

    Shapes: the first axis of every tensor is the layer axis of its stack, of size `len(layers[stack])`. docs/design.md
    lists the other axes of each kind.
    """

    kind: str
    """A name of `gfpet.lm.registry.KINDS`."""
    family: str
    layers: Mapping[str, tuple[int, ...]]
    """Its blocks, by stack; entry i of each tensor belongs to block `layers[stack][i]`."""
    tensors: Mapping[str, Tensor]
    """Keyed by `<target>.<part>`, e.g. `attn.q.A`."""
    scale: float = 1.0
    """Factor on its effect; kinds that are not scalable ignore it."""

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
        """The same module on this device, in this data type."""
        return self.with_tensors({name: tensor.to(device, dtype) for name, tensor in self.tensors.items()})

    def scaled(self, factor: float) -> PetModule:
        """The same module with its effect scaled by a factor; kinds that are not scalable ignore it."""
        return replace(self, scale=self.scale * factor)

    def detached(self) -> PetModule:
        """A copy that shares no memory with this one and has no autograd graph."""
        return self.with_tensors({name: tensor.detach().clone() for name, tensor in self.tensors.items()})

    @property
    def parameters(self) -> int:
        """Number of values."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def save(self, path: Path) -> None:
        """Write a safetensors file; the same module gives the same bytes."""
        about = {"format": FORMAT, "kind": self.kind, "family": self.family, "layers": self.layers, "scale": self.scale}
        save_tensors(path, self.tensors, about)

    @classmethod
    def load(cls, path: Path) -> PetModule:
        """Read what `save` wrote.

        Raises:
            ModuleError: the file is missing or broken, is not a module of gfpet, or is of an unknown kind.
        """
        tensors, about = load_tensors(path, "module", FORMAT)
        if about["kind"] not in KIND_NAMES:
            raise ModuleError(f"{path}: {unknown('kind of module', about['kind'], KIND_NAMES)}")
        return cls(
            kind=about["kind"],
            family=about["family"],
            layers={stack: tuple(blocks) for stack, blocks in about["layers"].items()},
            tensors=tensors,
            scale=about["scale"],
        )
