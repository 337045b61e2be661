"""Trainable updates of `W_plug` in stage `bridge`, and `W_down` as indices."""

from __future__ import annotations

import torch

from gfpet.method.plug import Projection, projected
from tests.tiny import tiny_gpt2, tiny_module


def _maps() -> Projection:
    generator = torch.Generator().manual_seed(1)
    return Projection(
        reads={"attn.o.out": torch.randn(2, 16, 24, generator=generator), "mlp.down.out": torch.randn(2, 16, 24)},
        writes={"attn.o.out": torch.randn(2, 24, 16, generator=generator), "mlp.down.out": torch.randn(2, 24, 16)},
    )


def test_updates_change_nothing_at_their_start() -> None:
    module, maps = tiny_module("adapter", tiny_gpt2(16, 2)), _maps()
    updated = maps.with_updates(3, torch.Generator().manual_seed(0))
    for name, tensor in projected(module, maps).tensors.items():
        assert torch.equal(projected(module, updated).tensors[name], tensor)


def test_updates_are_the_maps_plus_a_low_rank_product() -> None:
    module, maps = tiny_module("adapter", tiny_gpt2(16, 2)), _maps()
    named = maps.with_updates(3, torch.Generator().manual_seed(0)).named()
    named = {name: torch.randn_like(t) if "_right/" in name else t for name, t in named.items()}
    updated = Projection.of(named)
    whole = Projection(
        reads={s: m + updated.read_left[s] @ updated.read_right[s] for s, m in maps.reads.items()},
        writes={
            s: m + (updated.write_left[s] @ updated.write_right[s]).transpose(1, 2) for s, m in maps.writes.items()
        },
    )
    for name, tensor in projected(module, whole).tensors.items():
        torch.testing.assert_close(projected(module, updated).tensors[name], tensor, rtol=1e-4, atol=1e-4)


def test_indices_are_rows_of_the_identity() -> None:
    module = tiny_module("adapter", tiny_gpt2(16, 2))
    index = torch.tensor([[1, 4, 7], [0, 4, 15]])
    rows = torch.eye(16)[index]
    spaces = ("attn.o.out", "mlp.down.out")
    by_matrix = Projection({s: rows.transpose(1, 2) for s in spaces}, dict.fromkeys(spaces, rows))
    by_index = Projection(dict.fromkeys(spaces, index), dict.fromkeys(spaces, index))
    for name, tensor in projected(module, by_matrix).tensors.items():
        assert torch.equal(projected(module, by_index).tensors[name], tensor)
