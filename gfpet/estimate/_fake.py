"""Runs code under fake tensors, and answers when the code asks a tensor for a value.

A fake tensor has a shape but no values, so code that depends on values would stop. Here such code takes its largest
case: a mask keeps every position; an integer value is 0 (as an index: the first example, and all examples are alike);
a floating-point value is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# The last two occur only in inference mode; otherwise autograd turns them into the first.
_ASKS_A_VALUE = (_aten._local_scalar_dense.default, _aten.item.default, _aten.is_nonzero.default)

_INT8 = "bitsandbytes::int8_vectorwise_quant"
_INT8_MATMUL = "bitsandbytes::int8_mixed_scaled_mm"
_COUNTS_OUTLIERS = (_INT8, _INT8_MATMUL)
"""These operators separate columns with outliers. Their number depends on data: a handful in real models, 0 here."""


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors made inside this context take no memory; a model of 70B parameters is built in seconds.

    `gfpet.memory.measure` counts them at full size.
    """
    with FakeTensorMode(), _LargestCase():  # type: ignore[no-untyped-call]
        yield


class _LargestCase(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers the operators whose result size or value depends on data."""

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ASKS_A_VALUE:
            return _value(args[0].dtype)
        if func is _aten.bincount.default:
            sizes = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
            return torch.empty(max(1, sizes), dtype=torch.long, device=args[0].device)
        if func is _aten.nonzero.default:
            return torch.empty(args[0].numel(), args[0].dim(), dtype=torch.long, device=args[0].device)
        if func._schema.name in _COUNTS_OUTLIERS:
            return _without_outliers(func, args, kwargs)
        if func is _aten.index.Tensor:
            args = (args[0], [part for index in args[1] for part in _positions(index)])
        return func(*args, **kwargs)


def _value(dtype: torch.dtype) -> int | float | bool:
    if dtype == torch.bool:
        return False
    return 1.0 if dtype.is_floating_point else 0


def _positions(index: Any) -> list[Any]:
    """Replace a mask by indices of all positions; other indices stay."""
    if index is None or index.dtype not in (torch.bool, torch.uint8):
        return [index]
    return [torch.empty(index.numel(), dtype=torch.long, device=index.device) for _ in range(index.dim())]


def _without_outliers(func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    values = args[0]
    if func._schema.name == _INT8_MATMUL:
        weight, bias = args[2], args[6] if len(args) > 6 else kwargs.get("bias")
        found = values.new_empty(0)
        return torch.ops.bitsandbytes.int8_scaled_mm(args[1], weight, *args[3:5], bias, values.dtype), found
    codes, scales, _ = func(values)
    return codes, scales, torch.empty(0, dtype=torch.long, device=values.device)
