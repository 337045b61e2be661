"""What a direct write reads of the large model: residual streams on disk, and the hidden states at the reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.errors import ConfigError
from gfpet.families import Family
from gfpet.frozen import FrozenModel
from gfpet.memory import Step, no_step
from gfpet.scoring import Batch, EncodedExample
from gfpet.streams import ActivationCache, Activations, Plan, row_lengths


@dataclass(frozen=True)
class WriteInputs:
    """Of one set of examples."""

    streams: Activations
    hidden: Float[Tensor, "all_reads d"]
    """After the final norm, at the positions that are read of all rows, one row after the other."""
    offsets: Sequence[int]
    """By row number: its first read among all minus its position, so that offset + position is the read."""

    def hidden_at(self, batch: Batch) -> Float[Tensor, "reads d"]:
        """The hidden states at the batch's reads, on its device."""
        return self.hidden[_places(self.offsets, batch)].to(batch.read_row.device)


def read_large(
    encoded: Sequence[EncodedExample],
    large: FrozenModel,
    family: Family,
    taps: Mapping[str, tuple[int, ...]],
    width: int,
    folder: Path,
    *,
    dtype: torch.dtype,
    budget: int,
    batch_size: int,
    pad: int,
    device: torch.device,
    step: Step = no_step,
) -> WriteInputs:
    """Run the large model over all rows once; forward only.

    Args:
        width: d of the large model.
        folder: where the streams are kept.
        budget: bytes on disk.

    Raises:
        ConfigError: the streams are over the budget.
    """
    lengths = row_lengths(encoded)
    plan = Plan("full", dtype, taps, width, {stack: sum(of) for stack, of in lengths.items()})
    if plan.bytes > budget:
        raise ConfigError(
            f"write.budget_gb allows {budget / 1e9:.2f} GB, the activations ({plan}) need {plan.bytes / 1e9:.2f}. "
            "Raise it, lower write.taps, or set write.dtype to float16."
        )
    rows = [row for example in encoded for row in example.rows]
    starts = [0, *accumulate(max(len(target) for target in row.targets) for row in rows)]
    offsets = [start - row.start for start, row in zip(starts, rows, strict=False)]
    hidden, streams = torch.empty(starts[-1], width), ActivationCache(folder, plan, lengths)

    def keep(batch: Batch, states: Tensor) -> None:
        hidden[_places(offsets, batch)] = states[batch.read_row, batch.read_position].to("cpu", torch.float32)

    everything = torch.arange(width)
    streams.fill(
        encoded, large, family, everything, batch_size=batch_size, pad=pad, device=device, step=step, seen=keep
    )
    return WriteInputs(streams, hidden, offsets)


def _places(offsets: Sequence[int], batch: Batch) -> Tensor:
    """Where the batch's reads are among all, `[reads]`."""
    of_rows = torch.tensor([offsets[number] for number in batch.row_numbers])
    return of_rows[batch.read_row.cpu()] + batch.read_position.cpu()
