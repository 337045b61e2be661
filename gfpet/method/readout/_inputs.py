"""The inputs of a readout: the large model's residual streams and its hidden states at the reads, on disk.

A read is a position whose hidden state the output embedding turns into scores (`Batch.read_row`, `read_position`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.errors import ConfigError
from gfpet.lm.families import Family
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import Batch, EncodedExample
from gfpet.memory import Step, category, no_step
from gfpet.method.activation_cache import (
    ActivationCache,
    Activations,
    MakeRowStore,
    MappedFile,
    Plan,
    RowStore,
    row_lengths,
)


@dataclass(frozen=True)
class ReadoutInputs:
    """The inputs for one set of examples."""

    streams: Activations
    hidden: RowStore
    """Hidden states after the final norm at the reads of all rows, row by row."""
    starts: Sequence[int]
    """By row number, the index of the row's first read in `hidden`; the last entry is the total."""

    def hidden_at(self, batch: Batch) -> Float[Tensor, "reads d"]:
        """The hidden states at the batch's reads, on its device."""
        with category("cached"):
            found = [self.hidden.take(self.starts[row], self.starts[row + 1]) for row in batch.row_numbers]
            return torch.cat(found).squeeze(1).to(batch.read_row.device)


def read_large(
    encoded: Sequence[EncodedExample],
    large: FrozenModel,
    family: Family,
    layers_read: Mapping[str, tuple[int, ...]],
    width: int,
    folder: Path,
    *,
    dtype: torch.dtype,
    budget: int,
    batch_size: int,
    pad: int,
    device: torch.device,
    step: Step = no_step,
    store: MakeRowStore | None = None,
) -> ReadoutInputs:
    """Run the large model over all rows once; forward only.

    Args:
        width: d of the large model.
        folder: where to keep the activations.
        budget: bytes on disk.
        store: as in `ActivationCache`.

    Raises:
        ConfigError: the activations exceed the budget.
    """
    lengths = row_lengths(encoded)
    plan = Plan("full", dtype, layers_read, width, {stack: sum(of) for stack, of in lengths.items()})
    if plan.bytes > budget:
        raise ConfigError(
            f"readout.budget_gb allows {budget / 1e9:.2f} GB, the activations ({plan}) need {plan.bytes / 1e9:.2f}. "
            "Raise it, lower readout.layers_read, or set readout.dtype to float16."
        )
    rows = [row for example in encoded for row in example.rows]
    counts = [max(len(target) for target in row.targets) for row in rows]
    starts = [0, *accumulate(counts)]
    hidden = (store or MappedFile)(folder / "hidden.bin", torch.float32, (starts[-1], 1, width))

    def keep(batch: Batch, states: Tensor) -> None:
        # A batch's reads are sorted by row, and by position within a row.
        read = states[batch.read_row, batch.read_position].to("cpu", torch.float32).unsqueeze(1)
        of_rows = torch.split(read, [counts[row] for row in batch.row_numbers])
        for row, values in zip(batch.row_numbers, of_rows, strict=True):
            hidden.put(starts[row], values)

    streams, everything = ActivationCache(folder, plan, lengths, store), torch.arange(width)
    streams.fill(
        encoded, large, family, everything, batch_size=batch_size, pad=pad, device=device, step=step, seen=keep
    )
    return ReadoutInputs(streams, hidden, starts)
