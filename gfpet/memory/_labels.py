"""Labels for storages: categories, residents (what a phase finds in memory), and a context that sets the category."""

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
"""`cached`: the large model's activations that the Bridge reads. `other`: batches, sums, temporary values of the
optimizer, and earlier tensors that are not residents."""

Resident = nn.Module | torch.Tensor | Optimizer
"""In memory before a phase: a module (parameters, gradients, buffers), a tensor, or an optimizer's state."""

Label = tuple[Category, str]
"""Category, and the name of the module whose forward pass made it (empty if not tracked)."""

_NAMED: ContextVar[Category | None] = ContextVar("gfpet_memory_category", default=None)


@contextmanager
def category(name: Category) -> Iterator[None]:
    """Count storages made inside the context under this category instead of `activations`."""
    token = _NAMED.set(name)
    try:
        yield
    finally:
        _NAMED.reset(token)


def named_category() -> Category | None:
    """The category set by the innermost open `category`, or None."""
    return _NAMED.get()


def labelled(resident: Iterable[Resident]) -> Iterator[tuple[torch.Tensor, Category]]:
    """All tensors of the residents, with their categories: weights and buffers, gradients, optimizer state."""
    for item in resident:
        kind: Category = "weights"
        if isinstance(item, nn.Module):
            held: Iterable[Any] = [*item.parameters(), *item.buffers()]
        elif isinstance(item, Optimizer):
            # Skip the parameters: the model itself is a resident.
            held = [value for state in item.state.values() for value in state.values()]
            kind = "optimizer"
        else:
            held = [item]
        for tensor in held:
            if isinstance(tensor, torch.Tensor):
                yield tensor, kind
                if tensor.is_leaf and tensor.grad is not None:
                    yield tensor.grad, "gradients"
