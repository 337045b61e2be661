"""The ladder (Sung et al. 2022, Ladder Side-Tuning, arXiv:2206.06522): the Bridge reads the large model's activations.

    h_L,0 ──Down_0──► h_g ─► block 0 ─► (mix) ─► block 1 ─► (mix) ─► ... ─► norm ─► head
                                          ▲                   ▲
                               Down_1(h_L,1)       Down_2(h_L,2)

mix:  h_g ← μ h_g + (1 − μ) Down_l(h_L,l),   μ = sigmoid(a / T),   a = 0 at the start
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gfpet.activations import block_input
from gfpet.bridge._activations import Activations, Plan
from gfpet.families import Family
from gfpet.modules._hooks import forward_pre_hook
from gfpet.scoring import Batch, Trunk, trunk_of


@dataclass(frozen=True)
class Ladder:
    """The ladder's trained parts."""

    layers: tuple[int, ...]
    """Blocks of the Bridge whose inputs are mixed; the first takes the large model's embeddings as they come."""
    gate: Float[Tensor, " taken"]
    """`a`."""
    down: Float[Tensor, "taken d_g width"]
    """`Down_l`."""
    temperature: float

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, for the optimizer."""
        return {"ladder.gate": self.gate, "ladder.down": self.down}


def start_ladder(plan: Plan, kept: Int[Tensor, " d_g"], temperature: float, device: torch.device) -> Ladder:
    """Every `Down_l` starts as the selection of the Bridge's coordinates."""
    down = torch.eye(len(kept)) if plan.store == "projected" else torch.eye(plan.width)[kept]
    count = len(plan.layers)
    return Ladder(
        layers=plan.layers,
        gate=torch.zeros(count, device=device),
        down=down.repeat(count, 1, 1).to(device),
        temperature=temperature,
    )


def ladder_trunk(bridge: nn.Module, family: Family, ladder: Ladder, activations: Activations) -> Trunk:
    """The Bridge's forward pass with the large model's activations mixed in."""
    blocks, plain = family.blocks_of(bridge), trunk_of(bridge, family)

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        mu = torch.sigmoid(ladder.gate / ladder.temperature)
        read = activations(batch)
        with ExitStack() as stack:
            for index, layer in enumerate(ladder.layers):
                down = read[index] @ ladder.down[index].T
                hook = _replace(down) if layer == 0 else _mix(down, mu[index])
                stack.enter_context(forward_pre_hook(blocks[layer], hook))
            return plain(batch)

    return hidden


def _replace(down: Tensor) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _with_input(down, args, kwargs)

    return hook


def _mix(down: Tensor, mu: Tensor) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return _with_input(mu * block_input(args, kwargs) + (1 - mu) * down, args, kwargs)

    return hook


def _with_input(
    states: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args:
        return (states, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": states}
