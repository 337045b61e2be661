"""Transfer of a module to the Bridge: skipping what the Bridge lacks gives the same result as the full computation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gfpet.method.bridge import Transfer, start_transfer
from gfpet.method.plug import Projection, projected
from tests.method.bridge.test_bridge import CPU, FAMILY, parts, transfer_of
from tests.tiny import KIND_NAMES, decoder_dims

DIMS = decoder_dims(layers=4, width=16, heads=2, head_width=8, ffn=64)


def start(kind: str, folder: Path, update: str) -> tuple[Transfer, Projection]:
    """A transfer with its maps in a file, and the maps."""
    bridge = parts(4.0)[1]
    plain = transfer_of(kind, bridge)
    generator = torch.Generator().manual_seed(1)
    maps = replace(
        plain.w_plug,
        read_offsets={
            space: torch.randn(len(m), m.shape[1], generator=generator) for space, m in plain.w_plug.reads.items()
        },
        write_offsets={
            space: torch.randn(len(m), m.shape[1], generator=generator) for space, m in plain.w_plug.writes.items()
        },
    )
    maps.save(folder / "maps.safetensors")
    unread = Projection.open(folder / "maps.safetensors", plain.module, CPU)
    transfer = start_transfer(
        plain.module, unread, plain.pairs, FAMILY, bridge.kept, DIMS, divide_by_copies=True, update=update,
        update_rank=2, w_down="selection", seed=0,
    )  # fmt: skip
    return transfer, maps


@pytest.mark.parametrize("update", ["low_rank", "none"])
@pytest.mark.parametrize("kind", KIND_NAMES)
def test_the_short_way_is_the_long_way(kind: str, update: str, tmp_path: Path) -> None:
    transfer, maps = start(kind, tmp_path, update)
    with torch.no_grad():
        for tensor in transfer.trained.values():
            tensor += 0.1
    short, long = transfer.in_bridge(), projected(transfer.in_large(), transfer.w_down)
    assert short.tensors.keys() == long.tensors.keys()
    for name, tensor in long.tensors.items():
        torch.testing.assert_close(short.tensors[name], tensor)
    assert transfer.short is not None
    unread = {tensor.shape for tensor in (*maps.reads.values(), *maps.writes.values())}
    assert not unread & {tensor.shape for tensor in transfer.tensors}


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_what_the_bridge_has_not_would_have_no_gradient(kind: str, tmp_path: Path) -> None:
    transfer, _ = start(kind, tmp_path, "low_rank")
    whole = replace(transfer, w_plug=transfer.w_plug.spread(transfer.w_down), short=None)
    whole = replace(whole, w_plug=Projection.of(whole.w_plug.named()))
    gradients = []
    for each in (transfer, whole):
        for tensor in each.trained.values():
            tensor.grad = None
            tensor.requires_grad_(True)
        sum(tensor.square().sum() for tensor in each.in_bridge().tensors.values()).backward()
        gradients.append({name: tensor.grad for name, tensor in each.trained.items()})
    ours, all_of_it = gradients
    assert any("_right/" in name for name in ours)
    for name, gradient in all_of_it.items():
        torch.testing.assert_close(ours[name].norm(), gradient.norm())
        if "_right/" not in name:
            torch.testing.assert_close(ours[name], gradient)


def test_maps_that_are_trained_are_read(tmp_path: Path) -> None:
    transfer, maps = start("lora", tmp_path, "full")
    assert transfer.short is None
    for space, tensor in maps.reads.items():
        assert torch.equal(transfer.w_plug.reads[space], tensor)
        assert any(tensor.shape == each.shape for each in transfer.w_plug.held)
