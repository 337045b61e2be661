"""The large model's residual streams, for the Bridge to read: computed once, kept on disk within a budget.

A file for each stack. Tokens of all rows, one after the other
┌────────────┬──────────────────────────┐
│ token 0    │ block 0 │ block k │ ...  │   width: d_L, or the Bridge's d_g coordinates of it
│ token 1    │                          │
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from gfpet.activations import captured, residual_of
from gfpet.errors import ConfigError
from gfpet.families import Family
from gfpet.frozen import FrozenModel
from gfpet.scoring import Batch, EncodedExample, batches, trunk_of

Store = Literal["full", "projected", "recompute"]
Streams = dict[str, Tensor]
"""By stack, `[taken, rows, length, width]`: the residual stream before each block that is taken."""
Activations = Callable[[Batch], Streams]
"""The large model's residual streams before each block of the plan, float32; zeros at padding."""

_HALF = torch.float16


@dataclass(frozen=True)
class Plan:
    """How activations are kept."""

    store: Store
    dtype: torch.dtype
    layers: Mapping[str, tuple[int, ...]]
    """By stack, the blocks whose inputs are kept, rising; the first is always 0."""
    width: int
    """Values a token and layer: d_L, or d_g where they are projected."""
    tokens: Mapping[str, int]
    """By stack."""

    @property
    def bytes(self) -> int:
        """Size on disk, foretold: nothing when activations are recomputed."""
        if self.store == "recompute":
            return 0
        values = sum(self.tokens[stack] * len(layers) for stack, layers in self.layers.items()) * self.width
        return values * self.dtype.itemsize

    def __str__(self) -> str:
        if self.store == "recompute":
            return "recomputed in every step; the large model stays resident"
        layers = " and ".join(
            f"{len(layers)} layers of the {stack} ({self.tokens[stack]:,} tokens)"
            for stack, layers in self.layers.items()
        )
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.store}, {layers}, width {self.width} in {dtype}, {self.bytes / 1e6:.1f} MB"


def plan_activations(
    store: Literal["auto", "full", "projected", "recompute"],
    *,
    tokens: Mapping[str, int],
    layers: Mapping[str, int],
    large_width: int,
    bridge_width: int,
    dtype: torch.dtype,
    budget: int,
) -> Plan:
    """The plan asked for, or for `auto` the first within the budget of: full, full in half precision, projected,
    projected in half precision, the same of every second and every fourth layer, recomputed.

    Args:
        tokens: of all rows, by stack.
        layers: the large model's depth, by stack.
        budget: bytes on disk.

    Raises:
        ConfigError: the plan asked for is over the budget.
    """

    def plan(name: Store, of: torch.dtype = dtype, every: int = 1) -> Plan:
        width = bridge_width if name == "projected" else large_width
        return Plan(name, of, {stack: tuple(range(0, depth, every)) for stack, depth in layers.items()}, width, tokens)

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


def residual_streams(
    large: FrozenModel, family: Family, plan: Plan, kept: Int[Tensor, " d_g"], batch: Batch
) -> Streams:
    """One forward pass of the large model."""
    streams = {}
    with large.forward_only() as model, captured(model, family, map(residual_of, plan.layers)) as found:
        trunk_of(model, family)(batch)
        for stack, layers in plan.layers.items():
            taken = torch.stack([found[residual_of(stack)][layer] for layer in layers])
            streams[stack] = taken.index_select(-1, kept.to(taken.device)) if plan.store == "projected" else taken
    return streams


def recomputed(large: FrozenModel, family: Family, plan: Plan, kept: Int[Tensor, " d_g"]) -> Activations:
    """Activations by a forward pass for every batch."""

    def read(batch: Batch) -> Streams:
        # Copies outside of inference mode, which autograd may save.
        streams = residual_streams(large, family, plan, kept, batch)
        return {stack: stream.float().clone() for stack, stream in streams.items()}

    return read


class ActivationCache:
    """Activations of one set of rows, a file for each stack."""

    def __init__(self, folder: Path, plan: Plan, lengths: Mapping[str, Sequence[int]]) -> None:
        self._plan = plan
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {
            stack: _RowFile(folder / f"{stack}.bin", plan.dtype, lengths[stack], (len(layers), plan.width))
            for stack, layers in plan.layers.items()
        }

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
                streams = residual_streams(large, family, self._plan, kept, batch.to(device))
                for stack, states in streams.items():
                    self._files[stack].write(states.movedim(0, 2), batch.row_numbers, batch.texts[stack].lengths)

    def __call__(self, batch: Batch) -> Streams:
        """The activations of a batch, on its device."""
        return {
            stack: file.read(batch.row_numbers, batch.texts[stack].lengths)
            .to(batch.texts[stack].ids.device, torch.float32)
            .movedim(2, 0)
            for stack, file in self._files.items()
        }


class _RowFile:
    """Rows of tokens in one file, each token with `shape` values."""

    def __init__(self, path: Path, dtype: torch.dtype, lengths: Sequence[int], shape: tuple[int, int]) -> None:
        ends = torch.tensor(lengths).cumsum(0).tolist()
        self._starts = [0, *ends[:-1]]
        self._dtype, self._shape = dtype, shape
        # A mapped file is not memory: only the rows of a batch become tensors. NumPy knows no bfloat16, so the file
        # holds bit patterns.
        self._bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        self._file = np.memmap(path, dtype=f"int{8 * dtype.itemsize}", mode="w+", shape=(ends[-1], *shape))

    def write(self, states: Tensor, numbers: Sequence[int], lengths: Sequence[int]) -> None:
        """`states [rows, length, *shape]`; the rows' numbers and lengths."""
        bits = states.to("cpu", self._dtype).contiguous().view(self._bits)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            self._file[self._starts[number] : self._starts[number] + length] = bits[row, :length].numpy()

    def read(self, numbers: Sequence[int], lengths: Sequence[int]) -> Tensor:
        """`[rows, length, *shape]`, zeros at padding."""
        states = torch.zeros(len(lengths), max(lengths), *self._shape, dtype=self._dtype)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            kept = np.array(self._file[self._starts[number] : self._starts[number] + length])
            states[row, :length] = torch.from_numpy(kept).view(self._dtype)
        return states


def row_lengths(encoded: Iterable[EncodedExample]) -> dict[str, list[int]]:
    """Tokens of each row of a set by stack, in the order of their numbers."""
    lengths: dict[str, list[int]] = {}
    for example in encoded:
        for row in example.rows:
            for stack, tokens in row.texts.items():
                lengths.setdefault(stack, []).append(len(tokens))
    return lengths
