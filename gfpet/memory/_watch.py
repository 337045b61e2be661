"""Reports every operator's tensors, with labels, to a `LiveStorages`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, optimizer
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from gfpet.memory._labels import Category, Label, Resident, named_category

_BACKWARD = "(backward)"


See = Callable[[torch.Tensor, bool, Label], None]
"""`see(tensor, created, label)` counts the storages of a tensor."""


class Watch:
    """The dispatch mode, and hooks that recognise gradients, optimizer state and modules."""

    def __init__(
        self, see: See, relabel: Callable[[torch.Tensor, Category], None], modules: nn.Module | None = None
    ) -> None:
        self._mode = _Mode(see, self._made, self._maker)
        self._relabel = relabel
        self._names = {} if modules is None else {module: name for name, module in modules.named_modules() if name}
        self._within: list[str] = []
        self._optimizing = False
        self._handles: list[Any] = []

    def begin(self, resident: Sequence[Resident]) -> None:
        """Start watching."""
        hooked = self._handles
        for item in resident:
            leaves: Iterable[Any] = item.parameters() if isinstance(item, nn.Module) else [item]
            for leaf in leaves:
                if isinstance(leaf, torch.Tensor) and leaf.is_leaf and leaf.requires_grad:
                    hook = leaf.register_post_accumulate_grad_hook(self._is_gradient)  # type: ignore[no-untyped-call]
                    hooked.append(hook)
        hooked.append(optimizer.register_optimizer_step_pre_hook(self._before_step))
        hooked.append(optimizer.register_optimizer_step_post_hook(self._after_step))
        for module, name in self._names.items():
            hooked.append(module.register_forward_pre_hook(self._entering(name)))
            hooked.append(module.register_forward_hook(self._leaving, always_call=True))
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """Stop watching."""
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._within.clear()
        self._optimizing = False

    def _made(self, func: torch._ops.OpOverload) -> Category:
        if (named := named_category()) is not None:
            return named
        if not self._optimizing:
            return "activations"
        # Optimizers create their state with zeros_like; everything else that they create is temporary.
        return "optimizer" if func is torch.ops.aten.zeros_like.default else "other"

    def _maker(self) -> str:
        if self._within:
            return self._within[-1]
        return _BACKWARD if self._names and torch._C._current_autograd_node() is not None else ""

    def _is_gradient(self, leaf: torch.Tensor) -> None:
        if leaf.grad is not None:
            self._relabel(leaf.grad, "gradients")

    def _before_step(self, stepping: Optimizer, *_: Any) -> None:
        self._optimizing = True
        for group in stepping.param_groups:
            for parameter in group["params"]:
                self._is_gradient(parameter)

    def _after_step(self, stepping: Optimizer, *_: Any) -> None:
        self._optimizing = False
        for state in stepping.state.values():
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    self._relabel(value, "optimizer")

    def _entering(self, name: str) -> Any:
        return lambda *_: self._within.append(name)

    def _leaving(self, *_: Any) -> None:
        self._within.pop()


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Reports each operator's inputs and outputs."""

    def __init__(self, see: See, made: Callable[[torch._ops.OpOverload], Category], maker: Callable[[], str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._see = see
        self._made = made
        self._maker = maker

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        # torch.tensor(...) allocates outside the dispatcher; lift_fresh is the first operator that sees the tensor.
        fresh = func is torch.ops.aten.lift_fresh.default
        for tensor in inputs:
            self._see(tensor, fresh, ("other", ""))
        if inputs and _may_be_composite(func) and _is_composite(func, inputs[0].device.type):
            # Inference mode lacks the autograd layer that decomposes composite operators. Undecomposed, their
            # intermediate tensors would go unseen.
            with self:
                return func.decompose(*args, **kwargs)
        del inputs
        result = func(*args, **kwargs)
        label = (self._made(func), self._maker())
        for tensor in _tensors((result,)):
            self._see(tensor, True, label)
        return result


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def parts_of(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The inner tensors of a wrapper subclass (quantised weights, DTensor); empty for other tensors."""
    wrapper: Any = tensor
    return [getattr(wrapper, name) for name in wrapper.__tensor_flatten__()[0]] if _wraps(wrapper) else []


def _wraps(tensor: Any) -> bool:
    return is_traceable_wrapper_subclass(tensor)


@cache
def _may_be_composite(func: torch._ops.OpOverload) -> bool:
    """Whether the operator is composite on some device. Checked first: a fake tensor's device is slow to read."""
    # "prim" operators query a fake tensor (its device); the dispatcher does not know them.
    return func.namespace != "prim" and _has_kernel(func, "CompositeImplicitAutograd")


@cache
def _is_composite(func: torch._ops.OpOverload, device: str) -> bool:
    """Whether the operator has no kernel of its own on this device, so that decomposing it changes nothing."""
    # Offloaded weights are on the device "meta" between uses.
    return not _has_kernel(func, "Meta" if device == "meta" else device.upper())


def _has_kernel(func: torch._ops.OpOverload, key: str) -> bool:
    name = str(func.name())  # type: ignore[no-untyped-call]
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
