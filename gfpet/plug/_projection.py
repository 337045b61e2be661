"""Linear maps that take a module from one model's spaces to another's: `W_plug` (S to L) and `W_down` (L to Bridge).

        module of S            W_plug             W_down
    A [r, d_S]   ──·Q──►  A_L [r, d_L]  ──·Dᵀ──►  A_g [r, d_g]
    B [d_S, r]   ──P·──►  B_L [d_L, r]  ──E·──►   B_g [d_g, r]

A projected LoRA is an exact LoRA of the same rank; adapters and prefixes likewise (METHOD, composition table).
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
from gfpet.families import stack_of
from gfpet.modules import KINDS, PetModule, split_name
from gfpet.plug._layers import LayerMap
from gfpet.plug._tensors import Unread, spread, taken, width_of


@dataclass(frozen=True)
class Projection:
    """Maps for every space that a module touches, by `<site>.<in|out>`.

    The first axis n is the layers of the space's stack in the module, or 1 where all of them share one map. A map that
    only selects coordinates may be their indices instead of a matrix: whole numbers `[n, d_to]`.
    """

    reads: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, d_to]`: `Q`, or `Dᵀ`."""
    writes: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_to, d_from]`: `P`, or `E`."""
    read_offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from]`: what a centred regression leaves over, `x_from ≈ x_to Qᵀ + offset`; may be missing."""
    write_offsets: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_to]`: likewise for values that are written as they are (a prefix); updates need none."""
    read_left: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, k]`: with `read_right`, a low-rank update: the map is `reads + read_left @ read_right`."""
    read_right: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, k, d_to]`."""
    write_left: Mapping[str, Tensor] = field(default_factory=dict)
    """`[n, d_from, k]`: the same for what is written, `writesᵀ + write_left @ write_right`."""
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
        """The same maps on another device, in another data type (but indices)."""
        return Projection.of(
            {
                name: tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
                for name, tensor in self.named().items()
            }
        )

    @property
    def held(self) -> list[Tensor]:
        """The tensors that are in memory: all but those that are read anew each time."""
        fields = [getattr(self, name) for name in _FIELDS]
        return [tensor for each in fields if not isinstance(each, Unread) for tensor in each.values()]

    def with_updates(self, rank: int, generator: torch.Generator) -> Projection:
        """The same maps with low-rank updates that change nothing yet: left random, right zero."""
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
        """These maps and then a selection of coordinates, as one: `[n, d_from, kept]`, `[n, kept, d_from]` and so on.

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
        """Only the maps that a module of this kind and these sites goes through."""
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
        """These maps, whose low-rank updates have only selected coordinates, with updates of all; the others are 0."""

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
        """What `save` wrote, as far as this module goes through it; read anew, in float32, whenever a map is asked for.

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
        """Maps that are not in memory.

        Args:
            names: `<field>/<space>`.
            read: makes the tensor of a name.
        """
        fields: dict[str, dict[str, Callable[[], Tensor]]] = {name: {} for name in _FIELDS}
        for key in names:
            name, space = key.split("/", 1)
            fields[name][space] = partial(read, key)
        return cls(**{name: Unread(each) for name, each in fields.items()})

    @classmethod
    def load(cls, path: Path, module: PetModule | None = None) -> Projection:
        """Read what `save` wrote.

        Args:
            module: read only the maps that this module goes through; the others stay on disk.

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
    """Whether a tensor, by `<field>/<space>`, is of the spaces (read, written)."""
    return name.split("/", 1)[1] in wanted[0 if name.startswith("read") else 1]


def spaces_of(module: PetModule) -> tuple[set[str], set[str]]:
    """The spaces that a module reads from and those that it writes to, as `<site>.<in|out>`."""
    reads, writes = set(), set()
    for name in module.tensors:
        site, part_name = split_name(name)
        part = KINDS[module.kind].parts[part_name]
        if part.direction == "read":
            reads.add(f"{site}.{part.side}")
        elif part.direction == "write":
            writes.add(f"{site}.{part.side}")
    return reads, writes


def duplicated(module: PetModule, pairs: LayerMap, *, divide_by_copies: bool) -> PetModule:
    """The module's layers, laid out along another model's depth.

    Args:
        divide_by_copies: k copies of one layer's update would apply it k times: divide each by k.
    """
    sources: dict[str, list[int]] = {}
    for stack, layers in module.layers.items():
        where = {layer: index for index, layer in enumerate(layers)}
        sources[stack] = [where[small] for _, small in pairs[stack]]
    tensors = {}
    for name, tensor in module.tensors.items():
        own = sources[stack_of(name)]
        copies = torch.tensor([float(own.count(source)) for source in own])
        taken = tensor.index_select(0, torch.tensor(own, device=tensor.device))
        if divide_by_copies and KINDS[module.kind].parts[split_name(name)[1]].is_update:
            taken = taken / copies.to(taken.device, taken.dtype).view(-1, *[1] * (taken.ndim - 1))
        tensors[name] = taken
    layers_there = {stack: tuple(large for large, _ in pairs[stack]) for stack in module.layers}
    return PetModule(module.kind, module.family, layers_there, tensors, module.scale)


def projected(module: PetModule, projection: Projection) -> PetModule:
    """The module in the other model's spaces; differentiable in the module and in the maps.

    Raises:
        ModuleError: a space that the module needs has no map, or one of another width.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.tensors.items():
        site, part_name = split_name(name)
        part = KINDS[module.kind].parts[part_name]
        if part.axis is None:
            tensors[name] = tensor + _read_shift(module, projection, site) if part_name == "down_bias" else tensor
            continue
        space = f"{site}.{part.side}"
        maps = projection.reads if part.direction == "read" else projection.writes
        if space not in maps:
            raise ModuleError(
                f"no map for '{space}', which '{name}' {part.direction}s; maps: {', '.join(sorted(maps))}."
            )
        # As [.., d_from]: the last axis is mapped, whichever axis of the tensor it was.
        lines = tensor.movedim(part.axis, -1)
        if (takes := _takes(maps[space], part.direction)) not in (None, lines.shape[-1]):
            raise ModuleError(f"'{name}' has width {lines.shape[-1]}, but its map at '{space}' takes {takes}.")
        moved = _mapped(lines if lines.ndim > 2 else lines.unsqueeze(1), maps[space], projection, part.direction, space)
        moved = moved if lines.ndim > 2 else moved.squeeze(1)
        if part.direction == "write" and not part.is_update and space in projection.write_offsets:
            moved = moved + projection.write_offsets[space].unsqueeze(1)
        tensors[name] = moved.movedim(-1, part.axis)
    return module.with_tensors(tensors)


def _takes(map_: Tensor, direction: str) -> int | None:
    """The width that a map takes; indices do not tell."""
    return map_.shape[1 if direction == "read" else 2] if map_.is_floating_point() else None


def _mapped(lines: Tensor, map_: Tensor, projection: Projection, direction: str, space: str) -> Tensor:
    """`[n, lines, d_from]` to `[n, lines, d_to]`."""
    if not map_.is_floating_point():
        return lines.gather(-1, map_.unsqueeze(1).expand(*lines.shape[:2], -1))
    matrix = map_ if direction == "read" else map_.transpose(1, 2)
    moved = lines @ matrix
    left, right = getattr(projection, f"{direction}_left"), getattr(projection, f"{direction}_right")
    return moved + (lines @ left[space]) @ right[space] if space in left else moved


def _read_shift(module: PetModule, projection: Projection, site: str) -> Tensor | float:
    """`D · offset`: what the offset of a centred map adds to an adapter's inner bias, `[n, b]`."""
    offset = projection.read_offsets.get(f"{site}.out")
    if offset is None:
        return 0.0
    return (module.tensors[f"{site}.down"] @ offset.unsqueeze(-1)).squeeze(-1)


def plugged(module: PetModule, maps: Projection, pairs: LayerMap, *, divide_by_copies: bool) -> PetModule:
    """The module as it stands in the large model: duplicated along its depth, then through `W_plug`."""
    return projected(duplicated(module, pairs, divide_by_copies=divide_by_copies), maps)


def random_like(maps: Projection, generator: torch.Generator) -> Projection:
    """The null control: semi-orthogonal random maps, each with the Frobenius norm of the map that it replaces."""
    named = {}
    for name, tensor in sorted(maps.named().items()):
        if name.startswith(("read_offsets", "write_offsets")):
            continue
        drawn = torch.randn(tensor.shape, generator=generator)
        tall = drawn if tensor.shape[1] >= tensor.shape[2] else drawn.transpose(1, 2)
        basis = torch.linalg.qr(tall).Q
        basis = basis if tensor.shape[1] >= tensor.shape[2] else basis.transpose(1, 2)
        norm = torch.linalg.matrix_norm(tensor.float().cpu(), keepdim=True)
        named[name] = basis * (norm / torch.linalg.matrix_norm(basis, keepdim=True))
    return Projection.of(named)
