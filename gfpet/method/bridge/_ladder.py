"""The ladder (Sung et al. 2022, Ladder Side-Tuning, arXiv:2206.06522): the Bridge reads the large model's activations.

In each stack of blocks:

    h_L,0 ──Down_0──► h_g ─► block 0 ─► (mix) ─► block 1 ─► (mix) ─► ... ─► norm ─► head
                                          ▲                   ▲
                               Down_1(h_L,1)       Down_2(h_L,2)

mix:  h_g ← μ h_g + (1 − μ) Down_l(h_L,l),   μ = sigmoid(a / T),   a = 0 at the start
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gfpet.lm.activations import block_input
from gfpet.lm.families import Family
from gfpet.lm.hooks import forward_pre_hook
from gfpet.lm.scoring import Backbone, Batch, backbone_of
from gfpet.method.activation_cache import Activations, Plan


@dataclass(frozen=True)
class Rungs:
    """The ladder's trained parts in one stack."""

    layers: tuple[int, ...]
    """Blocks of the Bridge with a mixed input. Block 0 is not mixed: its input is L's projected embeddings alone."""
    gate: Float[Tensor, " taken"]
    """`a`, one per layer."""
    down: Float[Tensor, "taken d_g width"]
    """`Down_l`, one per layer."""


@dataclass(frozen=True)
class Ladder:
    """The ladder of all stacks."""

    rungs: Mapping[str, Rungs]
    """By stack."""
    temperature: float

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, for the optimizer."""
        return {
            f"ladder.{stack}.{name}": tensor
            for stack, rungs in self.rungs.items()
            for name, tensor in (("gate", rungs.gate), ("down", rungs.down))
        }


def start_ladder(plan: Plan, kept: Int[Tensor, " d_g"], temperature: float, device: torch.device) -> Ladder:
    """A new ladder: every `Down_l` selects the Bridge's coordinates `kept`, every gate is 0."""
    down = torch.eye(len(kept)) if plan.store == "projected" else torch.eye(plan.width)[kept]
    rungs = {
        stack: Rungs(layers, torch.zeros(len(layers), device=device), down.repeat(len(layers), 1, 1).to(device))
        for stack, layers in plan.layers.items()
    }
    return Ladder(rungs, temperature)


@contextmanager
def laddered(
    bridge: nn.Module, family: Family, ladder: Ladder, *, recompute: bool = False
) -> Iterator[Callable[[Activations], Backbone]]:
    """Mix the large model's activations into the Bridge's forward pass while the context is open.

    Yields a function from a source of activations to the forward pass. Run the backward pass inside the context, too:
    gradient checkpointing repeats the forward pass.

    Args:
        recompute: repeat the mixing in the backward pass instead of keeping its intermediate results.
    """
    plain = backbone_of(bridge, family)
    read: dict[str, Tensor] = {}

    def backbone(activations: Activations) -> Backbone:
        def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
            read.clear()
            read.update(activations(batch))
            return plain(batch)

        return hidden

    with ExitStack() as opened:
        for stack, rungs in ladder.rungs.items():
            blocks = family.blocks_of(bridge, stack)
            for index, layer in enumerate(rungs.layers):
                hook = _rung(read, stack, rungs, index, ladder.temperature, recompute)
                opened.enter_context(forward_pre_hook(blocks[layer], hook))
        yield backbone


def _rung(read: Mapping[str, Tensor], stack: str, rungs: Rungs, index: int, temperature: float, recompute: bool) -> Any:
    def mixed(states: Tensor, there: Tensor) -> Tensor:
        # The cache may hold half precision; compute in float32, as autocast would.
        down = there.to(rungs.down.dtype) @ rungs.down[index].T
        # L ran without the module, so it has no activations at positions that the module puts before the text.
        count = states.shape[1] - down.shape[1]
        before, text = states[:, :count], states[:, count:]
        if rungs.layers[index]:
            mu = torch.sigmoid(rungs.gate[index] / temperature)
            down = mu * text + (1 - mu) * down
        return torch.cat([before, down.to(before.dtype)], dim=1) if count else down

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = block_input(args, kwargs), read[stack][index]
        # The model's own checkpointing covers a block, but not the hooks on its input.
        again = recompute and torch.is_grad_enabled()
        states = checkpoint(mixed, *given, use_reentrant=False) if again else mixed(*given)
        return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

    return hook
