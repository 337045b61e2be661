"""The large model's residual stream, for the Bridge to read: computed once, kept on disk within a budget.

tokens of all rows, one after the other
┌────────────┬──────────────────────────┐
│ token 0    │ block 0 │ block k │ ...  │   width: d_L, or the Bridge's d_g coordinates of it
│ token 1    │                          │
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gfpet.activations import RESIDUAL, captured
from gfpet.errors import ConfigError
from gfpet.families import Family
from gfpet.frozen import FrozenModel
from gfpet.scoring import Batch, EncodedExample, batches, trunk_of

Store = Literal["full", "projected", "recompute"]
Activations = Callable[[Batch], Float[Tensor, "taken rows length width"]]
"""The large model's residual stream before each block of the plan, float32; zeros at padding."""

_HALF = torch.float16


@dataclass(frozen=True)
class Plan:
    """How activations are kept."""

    store: Store
    dtype: torch.dtype
    layers: tuple[int, ...]
    """Blocks whose inputs are kept, rising; the first is always 0."""
    width: int
    """Values a token and layer: d_L, or d_g where they are projected."""
    tokens: int

    @property
    def bytes(self) -> int:
        """Size on disk, foretold: nothing when activations are recomputed."""
        if self.store == "recompute":
            return 0
        return self.tokens * len(self.layers) * self.width * self.dtype.itemsize

    def __str__(self) -> str:
        if self.store == "recompute":
            return "recomputed in every step; the large model stays resident"
        kept = f"{len(self.layers)} layers of width {self.width} in {str(self.dtype).removeprefix('torch.')}"
        return f"{self.store}, {kept}, {self.tokens:,} tokens, {self.bytes / 1e6:.1f} MB"


def plan_activations(
    store: Literal["auto", "full", "projected", "recompute"],
    *,
    tokens: int,
    layers: int,
    large_width: int,
    bridge_width: int,
    dtype: torch.dtype,
    budget: int,
) -> Plan:
    """The plan asked for, or for `auto` the first within the budget of: full, full in half precision, projected,
    projected in half precision, the same of every second and every fourth layer, recomputed.

    Args:
        budget: bytes on disk.

    Raises:
        ConfigError: the plan asked for is over the budget.
    """

    def plan(name: Store, of: torch.dtype = dtype, every: int = 1) -> Plan:
        width = bridge_width if name == "projected" else large_width
        return Plan(name, of, tuple(range(0, layers, every)), width, tokens)

    if store != "auto":
        asked = plan(store)
        if asked.bytes > budget:
            raise ConfigError(
                f"bridge.activations.store={store} needs {asked.bytes / 1e9:.2f} GB, "
                f"bridge.activations.budget_gb allows {budget / 1e9:.2f}. Raise the budget, or set store to 'auto' "
                "(takes what fits), 'projected' or 'recompute', or dtype to float16."
            )
        return asked
    projected = [plan("projected"), *(plan("projected", _HALF, every) for every in (1, 2, 4))]
    choices = [plan("full"), plan("full", _HALF), *projected, plan("recompute")]
    return next(choice for choice in choices if choice.bytes <= budget)


def residual_stream(
    large: FrozenModel, family: Family, plan: Plan, kept: Int[Tensor, " d_g"], batch: Batch
) -> Float[Tensor, "taken rows length width"]:
    """One forward pass of the large model."""
    with large.forward_only() as model, captured(model, family, [RESIDUAL]) as found:
        trunk_of(model, family)(batch)
        taken = torch.stack([found[RESIDUAL][layer] for layer in plan.layers])
        if plan.store == "projected":
            taken = taken.index_select(-1, kept.to(taken.device))
    return taken


def recomputed(large: FrozenModel, family: Family, plan: Plan, kept: Int[Tensor, " d_g"]) -> Activations:
    """Activations by a forward pass for every batch."""

    def read(batch: Batch) -> Float[Tensor, "taken rows length width"]:
        # A copy outside of inference mode, which autograd may save.
        return residual_stream(large, family, plan, kept, batch).float().clone()

    return read


class ActivationCache:
    """Activations of one set of rows in one file."""

    def __init__(self, path: Path, plan: Plan, lengths: Sequence[int]) -> None:
        self._plan = plan
        ends = torch.tensor(lengths).cumsum(0).tolist()
        self._starts = [0, *ends[:-1]]
        path.parent.mkdir(parents=True, exist_ok=True)
        # A mapped file is not memory: only the rows of a batch become tensors. NumPy knows no bfloat16, so the file
        # holds bit patterns.
        self._bits = {2: torch.int16, 4: torch.int32}[plan.dtype.itemsize]
        shape = (ends[-1], len(plan.layers), plan.width)
        self._file = np.memmap(path, dtype=f"int{8 * plan.dtype.itemsize}", mode="w+", shape=shape)

    def fill(
        self,
        encoded: Sequence[EncodedExample],
        large: FrozenModel,
        family: Family,
        kept: Int[Tensor, " d_g"],
        *,
        batch_size: int,
        pad: int,
        device: torch.device,
        step: Callable[[int], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        """Run the large model over all rows once."""
        for _, batch in batches(encoded, size=batch_size, pad=pad):
            with step(batch.size):
                states = residual_stream(large, family, self._plan, kept, batch.to(device))
                states = states.movedim(0, 2).to("cpu", self._plan.dtype).contiguous().view(self._bits)
                for row, (number, length) in enumerate(zip(batch.row_numbers, batch.lengths, strict=True)):
                    self._file[self._starts[number] : self._starts[number] + length] = states[row, :length].numpy()

    def __call__(self, batch: Batch) -> Float[Tensor, "taken rows length width"]:
        """The activations of a batch, on its device."""
        rows, length = batch.input_ids.shape
        states = torch.zeros(rows, length, len(self._plan.layers), self._plan.width, dtype=self._plan.dtype)
        for row, (number, used) in enumerate(zip(batch.row_numbers, batch.lengths, strict=True)):
            kept = np.array(self._file[self._starts[number] : self._starts[number] + used])
            states[row, :used] = torch.from_numpy(kept).view(self._plan.dtype)
        return states.to(batch.input_ids.device, torch.float32).movedim(2, 0)


def row_lengths(encoded: Iterable[EncodedExample]) -> list[int]:
    """Tokens of each row of a set, in the order of their numbers."""
    return [len(row.tokens) for example in encoded for row in example.rows]
