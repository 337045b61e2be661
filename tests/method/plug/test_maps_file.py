from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfpet.errors import ModuleError
from gfpet.method.plug import MapsWriter, Projection


def _maps(layers: int) -> Projection:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return Projection(
        reads={"attn.q.in": drawn(layers, 3, 5)},
        writes={"attn.q.out": drawn(layers, 5, 3)},
        read_offsets={"attn.q.in": drawn(layers, 3)},
    )


def _part(maps: Projection, start: int, stop: int) -> Projection:
    return Projection.of({name: tensor[start:stop] for name, tensor in maps.named().items()})


def test_what_is_written_in_parts_is_what_is_read_whole(tmp_path: Path) -> None:
    maps = _maps(4)
    writer = MapsWriter(tmp_path / "maps.safetensors", {name: t.shape for name, t in maps.named().items()})
    writer.write(_part(maps, 2, 4), {"decoder": 2})
    writer.write(_part(maps, 0, 2), {"decoder": 0})
    found = Projection.load(tmp_path / "maps.safetensors").named()
    assert found.keys() == maps.named().keys()
    for name, tensor in maps.named().items():
        assert torch.equal(found[name], tensor)


def test_the_same_maps_give_the_same_bytes(tmp_path: Path) -> None:
    maps = _maps(4)
    for name in ("a", "b"):
        writer = MapsWriter(tmp_path / name, {name: t.shape for name, t in maps.named().items()})
        for layer in range(4):
            writer.write(_part(maps, layer, layer + 1), {"decoder": layer})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    maps = _maps(4)
    writer = MapsWriter(tmp_path / "maps", {name: t.shape for name, t in maps.named().items()})
    with pytest.raises(ModuleError, match=r"'reads/attn.q.in' \[2, 3, 5\] from layer 3 on does not fit"):
        writer.write(_part(maps, 0, 2), {"decoder": 3})
    with pytest.raises(ModuleError, match="no such map"):
        writer.write(Projection(reads={"mlp.up.in": torch.zeros(1, 3, 5)}), {"decoder": 0})
