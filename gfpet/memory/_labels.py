"""What a storage is for: the categories, what is in memory before a phase, and code that names what it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

Category = Literal["weights", "gradients", "optimizer", "activations", "cached", "other"]
CATEGORIES: tuple[Category, ...] = ("weights", "gradients", "optimizer", "activations", "cached", "other")
"""`cached` are the large model's activations that the Bridge reads; `other` are batches, sums, temporary values of the
optimizer, and whatever was there before and was not named."""

Resident = nn.Module | torch.Tensor | Optimizer
"""What is in memory before a phase: a module (parameters, gradients, buffers), a tensor, an optimizer's state."""

Label = tuple[Category, str]
"""Category, and the module whose forward pass made it (empty where that is not noted)."""

_NAMED: ContextVar[Category | None] = ContextVar("gfpet_memory_category", default=None)


@contextmanager
def category(name: Category) -> Iterator[None]:
    """Storages made inside count under this category instead of `activations`."""
    token = _NAMED.set(name)
    try:
        yield
    finally:
        _NAMED.reset(token)


def named_category() -> Category | None:
    """The category that the running code has named, if it has."""
    return _NAMED.get()


def labelled(resident: Iterable[Resident]) -> Iterator[tuple[torch.Tensor, Category]]:
    """All tensors behind the residents with their categories: weights and buffers, gradients, optimizer state."""
    for item in resident:
        kind: Category = "weights"
        if isinstance(item, nn.Module):
            held: Iterable[Any] = [*item.parameters(), *item.buffers()]
        elif isinstance(item, Optimizer):
            # Not the parameters: an optimizer of a part of a model does not make the rest resident, and that part is.
            held = [value for state in item.state.values() for value in state.values()]
            kind = "optimizer"
        else:
            held = [item]
        for tensor in held:
            if isinstance(tensor, torch.Tensor):
                yield tensor, kind
                if tensor.is_leaf and tensor.grad is not None:
                    yield tensor.grad, "gradients"
