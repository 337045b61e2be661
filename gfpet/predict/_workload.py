"""What a prediction runs on: models of a shape without weights, and examples as long as they may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gfpet.data.examples import Example
from gfpet.families import Family
from gfpet.models import LoadedModel
from gfpet.scoring import EncodedExample, Row
from gfpet.task_data import Split, TaskData

_TASK = "rte"
_ANSWERS = ("Yes", "No")


@dataclass(frozen=True)
class Workload:
    """A batch of rows, each `length` tokens long, with two one-token candidates (a verbalizer's)."""

    batch: int
    length: int

    def split(self, batches: int, batch: int | None = None) -> Split:
        """Examples for some batches."""
        count = batches * (batch or self.batch)
        examples = [Example(f"sizes/{n}", "", _ANSWERS, _ANSWERS, (n % 2,)) for n in range(count)]
        row = Row((0,) * self.length, ((0,), (1,)), self.length - 1)
        return Split(examples, [EncodedExample((row,), n, (n % 2,), 2) for n in range(count)])

    def task(self) -> TaskData:
        """Two batches to train on: the second step has the optimizer's state from the first."""
        return TaskData(_TASK, self.split(2), self.split(1), self.split(1), pad=0)


def shaped(family: Family, config: Any, dtype: torch.dtype, device: torch.device, name: str) -> LoadedModel:
    """A model of a configuration, as `load_pretrained` leaves it: frozen, in evaluation mode, without dropout."""
    from transformers import AutoModelForCausalLM

    for dropout in family.dropouts:
        setattr(config, dropout, 0.0)
    make: Any = AutoModelForCausalLM.from_config
    with device:  # fake weights cannot be moved afterwards
        model = make(config, dtype=dtype, attn_implementation="sdpa")
    return LoadedModel(model.eval().requires_grad_(False), family, None, name)
