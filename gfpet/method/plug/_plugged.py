"""Takes a module to another model: along its depth, then through maps into its spaces. Also the random control."""

from __future__ import annotations

import torch
from torch import Tensor

from gfpet.errors import ModuleError
from gfpet.lm.families import stack_of
from gfpet.lm.modules import KINDS, PetModule, split_name
from gfpet.method.plug._layers import LayerAssignment, with_embeddings
from gfpet.method.plug._projection import Projection


def duplicated(module: PetModule, pairs: LayerAssignment, *, divide_by_copies: bool) -> PetModule:
    """Copy the module's layers along the large model's depth, as the layer assignment says.

    Args:
        divide_by_copies: divide each of k copies of a layer's update by k; otherwise the update applies k times.
    """
    pairs = with_embeddings(pairs, module.layers)
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
    """Map the module into the other model's spaces; differentiable in the module and in the maps.

    Raises:
        ModuleError: a space of the module has no map, or a map of another width.
    """
    module = KINDS[module.kind].folded(module)
    tensors: dict[str, Tensor] = {}
    for name, tensor in module.tensors.items():
        target, part_name = split_name(name)
        part = KINDS[module.kind].parts[part_name]
        if part.axis is None:
            tensors[name] = tensor + _read_shift(module, projection, target, part.added_to) if part.added_to else tensor
            continue
        space = f"{target}.{part.side}"
        maps = projection.reads if part.direction == "read" else projection.writes
        if space not in maps:
            raise ModuleError(
                f"no map for '{space}', which '{name}' {part.direction}s; maps: {', '.join(sorted(maps))}."
            )
        # Move the mapped axis to the end: [.., d_from].
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
    """The input width of a map; None for indices, which do not tell."""
    return map_.shape[1 if direction == "read" else 2] if map_.is_floating_point() else None


def _mapped(lines: Tensor, map_: Tensor, projection: Projection, direction: str, space: str) -> Tensor:
    """Map `[n, lines, d_from]` to `[n, lines, d_to]`."""
    if not map_.is_floating_point():
        return lines.gather(-1, map_.unsqueeze(1).expand(*lines.shape[:2], -1))
    matrix = map_ if direction == "read" else map_.transpose(1, 2)
    moved = lines @ matrix
    left, right = getattr(projection, f"{direction}_left"), getattr(projection, f"{direction}_right")
    return moved + (lines @ left[space]) @ right[space] if space in left else moved


def _read_shift(module: PetModule, projection: Projection, target: str, part_name: str) -> Tensor | float:
    """`D · offset`, `[n, b]`: the offset's contribution to the product of part `D` with the activations."""
    offset = projection.read_offsets.get(f"{target}.{KINDS[module.kind].parts[part_name].side}")
    if offset is None:
        return 0.0
    return (module.tensors[f"{target}.{part_name}"] @ offset.unsqueeze(-1)).squeeze(-1)


def plugged(module: PetModule, maps: Projection, pairs: LayerAssignment, *, divide_by_copies: bool) -> PetModule:
    """The module in the large model: `duplicated` along its depth, then `projected` through `W_plug`."""
    return projected(duplicated(module, pairs, divide_by_copies=divide_by_copies), maps)


def random_like(maps: Projection, generator: torch.Generator) -> Projection:
    """Random control: semi-orthogonal maps, each with the Frobenius norm of the map it replaces, without offsets."""
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
