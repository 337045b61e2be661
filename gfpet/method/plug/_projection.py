"""Linear maps of a module from one model's spaces to another's: `W_plug` (S to L) and `W_down` (L to Bridge).

        module of S            W_plug             W_down
    A [r, d_S]   ──·Q──►  A_L [r, d_L]  ──·Dᵀ──►  A_g [r, d_g]
    B [d_S, r]   ──P·──►  B_L [d_L, r]  ──E·──►   B_g [d_g, r]

A projected LoRA is an exact LoRA of the same rank; adapters and prefixes likewise (docs/method.md has the equations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfpet.errors import ModuleError
from gfpet.lm.modules import KINDS, PetModule, split_name
from gfpet.method.plug._tensors import Unread, spread, taken, width_of


@dataclass(frozen=True)
class Projection:
    """Maps for every space that a module reads or writes, by `<target>.<in|out>`.

    The first axis n is the layers of the space's stack in the module, or 1 if all layers share one map. A map that only
    selects coordinates may be a tensor of integer indices `[n, d_to]` instead of a matrix.
    """

    reads: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, d_to]`: `Q`, or `Dᵀ`."""
    writes: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_to, d_from]`: `P`, or `E`."""
    read_offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from]`: offset of a centred regression, `x_from ≈ x_to Qᵀ + offset`; optional."""
    write_offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_to]`: likewise for values (a prefix); updates need none."""
    read_left: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, k]`: low-rank update with `read_right`; the map is `reads + read_left @ read_right`."""
    read_right: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, k, d_to]`."""
    write_left: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, k]`: likewise for writes, `writesᵀ + write_left @ write_right`."""
    write_right: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, k, d_to]`."""

    def named(self) -> dict[str, Tensor]:
        """All tensors, by `<field>/<space>`."""
        return {f"{name}/{space}": tensor for name in _FIELDS for space, tensor in getattr(self, name).items()}

    @classmethod
    def of(cls, named: Mapping[str, Tensor]) -> Projection:
        """The inverse of `named`."""
        fields: dict[str, dict[str, Tensor]] = {name: {} for name in _FIELDS}
        for key, tensor in named.items():
            name, space = key.split("/", 1)
            fields[name][space] = tensor
        return cls(**fields)

    def to(self, device: torch.device, dtype: torch.dtype) -> Projection:
        """A copy on another device and in another data type; indices keep theirs."""
        return Projection.of(
            {
                name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
                for name, tensor in self.named().items()
            }
        )

    @property
    def held(self) -> list[Tensor]:
        """The tensors in memory, without those read from the file on each access."""
        fields = [getattr(self, name) for name in _FIELDS]
        return [tensor for each in fields if not isinstance(each, Unread) for tensor in each.values()]

    def with_updates(self, rank: int, generator: torch.Generator) -> Projection:
        """The same maps with low-rank updates that start at zero: left random, right zero."""
        new: dict[str, dict[str, Tensor]] = {name: {} for name in LOW_RANK}
        for direction in ("read", "write"):
            maps: Mapping[str, Tensor] = getattr(self, f"{direction}s")
            for space in sorted(maps):
                matrix = maps[space]
                d_from, d_to = matrix.shape[1:] if direction == "read" else matrix.shape[:0:-1]
                left = torch.randn(matrix.shape[0], d_from, rank, generator=generator) / d_from**0.5
                new[f"{direction}_left"][space] = left.to(matrix.device, matrix.dtype)
                new[f"{direction}_right"][space] = matrix.new_zeros(matrix.shape[0], rank, d_to)
        return replace(self, **new)

    def selected(self, chosen: Projection) -> Projection:
        """Compose these maps with a selection of coordinates: `[n, d_from, kept]`, `[n, kept, d_from]` and so on.

        Args:
            chosen: indices `[n, kept]` by space.
        """
        along = {"reads": 2, "writes": 1, "write_offsets": 1, "read_right": 2, "write_right": 2}
        fields: dict[str, dict[str, Tensor]] = {}
        for name in _FIELDS:
            indices = chosen.reads if name.startswith("read") else chosen.writes
            maps: Mapping[str, Tensor] = getattr(self, name)
            fields[name] = {
                space: taken(maps[space], indices[space], along[name]) if name in along else maps[space]
                for space in maps
            }
        return Projection(**fields)

    def for_module(self, module: PetModule) -> Projection:
        """Only the maps that this module needs, by its kind and target modules."""
        reads, writes = spaces_of(module)
        named = {
            name: tensor
            for name, tensor in self.named().items()
            if name.split("/", 1)[1] in (reads if name.startswith("read") else writes)
        }
        return Projection.of(named)

    def shared(self) -> Projection:
        """One map for all layers: the mean over them."""
        return Projection.of({name: tensor.mean(0, keepdim=True) for name, tensor in self.named().items()})

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        named = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self.named().items())}
        save_file(named, path)

    def spread(self, chosen: Projection) -> Projection:
        """Extend low-rank updates of selected coordinates to all coordinates, with zeros for the others.

        Args:
            chosen: indices `[n, kept]` by space.
        """

        def whole(direction: str, axis: int) -> Unread:
            rights, maps = getattr(self, f"{direction}_right"), getattr(self, f"{direction}s")
            indices = getattr(chosen, f"{direction}s")
            return Unread(
                {
                    space: partial(spread, right, indices[space], partial(width_of, maps, space, axis))
                    for space, right in rights.items()
                }
            )

        return replace(self, read_right=whole("read", 2), write_right=whole("write", 1))

    @classmethod
    def open(cls, path: Path, module: PetModule, device: torch.device) -> Projection:
        """The maps in a file from `save` that this module needs. Each access reads the map again, in float32.

        Raises:
            ModuleError: the file is missing or broken.
        """

        def read(name: str) -> Tensor:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
            return tensor.to(device, torch.float32)

        wanted = spaces_of(module)
        try:
            with safe_open(path, framework="pt") as file:
                return cls.unread([name for name in file.keys() if _is_of(name, wanted)], read)  # noqa: SIM118
        except Exception as error:  # safetensors raises its own untyped errors
            raise ModuleError(f"cannot read the maps {path}: {error}") from error

    @classmethod
    def unread(cls, names: Iterable[str], read: Callable[[str], Tensor]) -> Projection:
        """Maps outside of memory; each access calls `read`.

        Args:
            names: `<field>/<space>`.
            read: gives the tensor of a name.
        """
        fields: dict[str, dict[str, Callable[[], Tensor]]] = {name: {} for name in _FIELDS}
        for key in names:
            name, space = key.split("/", 1)
            fields[name][space] = partial(read, key)
        return cls(**{name: Unread(each) for name, each in fields.items()})

    @classmethod
    def load(cls, path: Path, module: PetModule | None = None) -> Projection:
        """Read a file from `save`.

        Args:
            module: read only the maps that this module needs.

        Raises:
            ModuleError: the file is missing or broken.
        """
        wanted = None if module is None else spaces_of(module)
        try:
            with safe_open(path, framework="pt") as file:
                names = [
                    name
                    for name in file.keys()  # noqa: SIM118  (not a dict)
                    if wanted is None or _is_of(name, wanted)
                ]
                return cls.of({name: file.get_tensor(name) for name in names})
        except Exception as error:  # safetensors raises its own untyped errors
            raise ModuleError(f"cannot read the maps {path}: {error}") from error


LOW_RANK = ("read_left", "read_right", "write_left", "write_right")
_FIELDS = ("reads", "writes", "read_offsets", "write_offsets", *LOW_RANK)


def _is_of(name: str, wanted: tuple[set[str], set[str]]) -> bool:
    """Whether the tensor `<field>/<space>` belongs to the wanted spaces (read, written)."""
    return name.split("/", 1)[1] in wanted[0 if name.startswith("read") else 1]


def spaces_of(module: PetModule) -> tuple[set[str], set[str]]:
    """The spaces that a module reads and those that it writes, as `<target>.<in|out>`."""
    reads, writes = set(), set()
    for name in module.tensors:
        target, part_name = split_name(name)
        part = KINDS[module.kind].parts[part_name]
        if part.direction == "read":
            reads.add(f"{target}.{part.side}")
        elif part.direction == "write":
            writes.add(f"{target}.{part.side}")
    return reads, writes
