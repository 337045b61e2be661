"""The activation cache: the large model's residual streams, computed once and kept on disk within a budget.

The Bridge and the readout train on it. One file per stack; the tokens of all rows follow each other:

┌────────────┬──────────────────────────┐
│ token 0    │ block 0 │ block k │ ...  │   width: d_L, or the Bridge's d_g coordinates of it
│ token 1    │                          │
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from gfpet.errors import ConfigError
from gfpet.lm.activations import residual_of, visited
from gfpet.lm.families import Family, stack_of
from gfpet.lm.finite import require_finite
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import Batch, EncodedExample, backbone_of, batches
from gfpet.memory import Step, category, no_step

Store = Literal["full", "projected", "recompute"]
Streams = dict[str, Tensor]
"""By stack, `[layers, rows, length, width]`: the residual stream before each block of the plan."""
Activations = Callable[[Batch], Streams]
"""Gives the large model's residual streams of a batch, as the plan keeps them; zeros at padding."""

_HALF = torch.float16


@dataclass(frozen=True)
class Plan:
    """What the activation cache keeps, and in which form."""

    store: Store
    dtype: torch.dtype
    layers: Mapping[str, tuple[int, ...]]
    """By stack, the blocks whose inputs are kept, in rising order from block 0."""
    width: int
    """Values per token and layer: d_L, or d_g if projected."""
    tokens: Mapping[str, int]
    """Tokens of all rows, by stack."""

    @property
    def bytes(self) -> int:
        """Estimated size on disk; 0 if activations are recomputed."""
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
    """The requested plan. `auto` takes the first of these within the budget: full, full in half precision, projected,
    projected in half precision, the same for every second and every fourth layer, recomputed.

    Args:
        tokens: tokens of all rows, by stack.
        layers: the large model's depth, by stack.
        budget: bytes on disk.

    Raises:
        ConfigError: the requested plan exceeds the budget.
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
) -> tuple[Streams, Tensor]:
    """The large model's residual streams and last hidden states `[rows, length, d]`, from one forward pass.

    Args:
        kept: the d_g coordinates of L's width that a projected plan keeps.
    """
    streams: Streams = {}
    place = {stack: {layer: index for index, layer in enumerate(layers)} for stack, layers in plan.layers.items()}

    def take(space: str, layer: int, states: Tensor) -> None:
        # Project right here: the full widths of all blocks must never be in memory together.
        taken = states.index_select(-1, kept.to(states.device)) if plan.store == "projected" else states
        stack = stack_of(space)
        if stack not in streams:
            with category("cached"):
                streams[stack] = taken.new_empty(len(place[stack]), *taken.shape)
        streams[stack][place[stack][layer]] = taken

    with large.forward_only() as model, visited(model, family, map(residual_of, plan.layers), take, plan.layers):
        hidden = backbone_of(model, family)(batch)
    return streams, hidden


def recomputed(large: FrozenModel, family: Family, plan: Plan, kept: Int[Tensor, " d_g"]) -> Activations:
    """Activations without a cache: one forward pass of the large model per batch."""

    def read(batch: Batch) -> Streams:
        # Autograd cannot save tensors made in inference mode, so clone them outside of it.
        streams, _ = residual_streams(large, family, plan, kept, batch)
        with category("cached"):
            return {stack: streams.pop(stack).clone() for stack in tuple(streams)}

    return read


@runtime_checkable
class RowStore(Protocol):
    """Stores values by token. `MappedFile` is the one in use."""

    def put(self, start: int, values: Tensor) -> None:
        """Store the values `[tokens, layers, width]` of the tokens from `start` on."""

    def take(self, start: int, stop: int) -> Tensor:
        """The values of tokens `start` to `stop`."""


MakeRowStore = Callable[[Path, torch.dtype, tuple[int, int, int]], RowStore]
"""From a file, a data type and `(tokens, layers, width)`."""


class ActivationCache:
    """Activations of one set of rows, one file per stack."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        lengths: Mapping[str, Sequence[int]],
        store: MakeRowStore | None = None,
    ) -> None:
        """Create the empty cache.

        Args:
            lengths: tokens of each row, by stack.
            store: makes the row stores; a mapped file in the folder by default.
        """
        self._plan = plan
        self._starts = {stack: [0, *accumulate(of)] for stack, of in lengths.items()}
        self._rows = {
            stack: (store or MappedFile)(
                folder / f"{stack}.bin", plan.dtype, (self._starts[stack][-1], len(layers), plan.width)
            )
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
        step: Step = no_step,
        seen: Callable[[Batch, Tensor], None] = lambda *_: None,
    ) -> None:
        """Run the large model over all rows once.

        Args:
            kept: the d_g coordinates of L's width that a projected plan keeps.
            seen: called with each batch and its last hidden states `[rows, length, d]`.

        Raises:
            NumberError: an activation is NaN or infinite, in L's data type or in the cache's.
        """
        for _, batch in batches(encoded, size=batch_size, pad=pad):
            with step(batch.size):
                batch = batch.to(device)
                streams, hidden = residual_streams(large, family, self._plan, kept, batch)
                seen(batch, hidden)
                for stack, states in streams.items():
                    lengths, starts = batch.texts[stack].lengths, self._starts[stack]
                    for row, (number, length) in enumerate(zip(batch.row_numbers, lengths, strict=True)):
                        values = states[:, row, :length].movedim(0, 1).to("cpu", self._plan.dtype)
                        require_finite({stack: values}, f"the large model's activations of row {number}")
                        self._rows[stack].put(starts[number], values)

    def __call__(self, batch: Batch) -> Streams:
        """The activations of a batch, on its device."""
        with category("cached"):
            return {stack: self._read(stack, batch).movedim(2, 0) for stack in self._rows}

    def _read(self, stack: str, batch: Batch) -> Tensor:
        text, starts = batch.texts[stack], self._starts[stack]
        rows, length = text.ids.shape
        states = torch.zeros(rows, length, len(self._plan.layers[stack]), self._plan.width, dtype=self._plan.dtype)
        for row, (number, used) in enumerate(zip(batch.row_numbers, text.lengths, strict=True)):
            states[row, :used] = self._rows[stack].take(starts[number], starts[number] + used)
        return states.to(text.ids.device)


class MappedFile:
    """Rows in a memory-mapped file: only the rows of a batch become tensors."""

    def __init__(self, path: Path, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._dtype = dtype
        # NumPy knows no bfloat16, so the file holds bit patterns.
        self._bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        self._file = np.memmap(path, dtype=f"int{8 * dtype.itemsize}", mode="w+", shape=shape)

    def put(self, start: int, values: Tensor) -> None:
        """Store the values of the tokens from `start` on."""
        self._file[start : start + len(values)] = values.contiguous().view(self._bits).numpy()

    def take(self, start: int, stop: int) -> Tensor:
        """The values of tokens `start` to `stop`."""
        return torch.from_numpy(np.array(self._file[start:stop])).view(self._dtype)


def row_lengths(encoded: Iterable[EncodedExample]) -> dict[str, list[int]]:
    """Tokens of each row, by stack, in the order of the row numbers."""
    lengths: dict[str, list[int]] = {}
    for example in encoded:
        for row in example.rows:
            for stack, tokens in row.texts.items():
                lengths.setdefault(stack, []).append(len(tokens))
    return lengths
