"""Writes a projection's file layer by layer: all maps between two large models may not fit in memory together."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from gfpet.errors import ModuleError
from gfpet.lm.families import stack_of
from gfpet.method.plug._projection import Projection


class MapsWriter:
    """Writes a safetensors file of float32 tensors of known shapes, for `Projection.load`.

    Args:
        shapes: by the names of `Projection.named`; the first axis is the layers.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = {name: tuple(shape) for name, shape in sorted(shapes.items())}
        path.parent.mkdir(parents=True, exist_ok=True)
        about, end = {}, 0
        self._starts: dict[str, int] = {}
        for name, shape in self._shapes.items():
            size = 4 * int(np.prod(shape))
            self._starts[name] = end
            about[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
            end += size
        header = json.dumps(about, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # safetensors aligns its data
        self._data = 8 + len(header)
        self._path = path
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(self._data + end)

    def write(self, maps: Projection, start: Mapping[str, int]) -> None:
        """Write the maps of some layers.

        Args:
            start: by stack, the index of their first layer among all layers.

        Raises:
            ModuleError: a map does not fit the shapes of the file.
        """
        with self._path.open("r+b") as file:
            for name, tensor in maps.named().items():
                first = start[stack_of(name.split("/", 1)[1])]
                shape = self._shapes.get(name)
                if shape is None or tensor.shape[1:] != shape[1:] or first + len(tensor) > shape[0]:
                    raise ModuleError(
                        f"map '{name}' {list(tensor.shape)} from layer {first} on does not fit in {self._path}: "
                        f"{'no such map' if shape is None else list(shape)}."
                    )
                for layer, matrix in enumerate(tensor, start=first):
                    file.seek(self._data + self._starts[name] + 4 * layer * int(np.prod(shape[1:])))
                    file.write(_bytes(matrix))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().float().cpu().contiguous().numpy().tobytes()
