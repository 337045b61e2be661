"""The exact peak of live tensor bytes, by watching storages under a dispatch mode.

Every operator that reaches the dispatcher hands us its inputs and outputs. A tensor is only a view of a storage, so
storages are what is counted: each once, `nbytes` of it, from the operator that made it until its last owner lets go of
it, which a weak reference tells. The technique is that of `torch.distributed._tools.mem_tracker`, which needs modules,
gradients and an optimizer to work; this one needs nothing but operators, so that it also runs under inference mode
and, since it asks for sizes only, under `FakeTensorMode` (enter that first, this second).

What it cannot see: buffers that a kernel takes and returns inside one operator, and tensors that nobody hands to an
operator and that are not among the residents.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

Resident = nn.Module | torch.Tensor | Optimizer
"""What is in memory before a phase: a module (parameters, gradients, buffers), a tensor, an optimizer's state."""


class _Entry:
    """One live storage. `size` is kept because a dead storage cannot be asked any more."""

    __slots__ = ("device", "key", "ref", "size")

    def __init__(self, key: int, size: int, device: str) -> None:
        self.key = key
        self.size = size
        self.device = device
        self.ref: weakref.ref[torch.UntypedStorage] | None = None


class LiveStorages:
    """Counts the bytes of live storages, by device type (`cpu`, `cuda`, ...).

    Operators are seen only inside `with live.tracing():`; storages that die are noticed at any time. Nothing is kept
    alive. Results are the same bit for bit as without, with one caveat on memory: while any dispatch mode is on,
    autograd adds up the gradients of a tensor that is used twice into a new tensor, not in place, so that a backward
    pass may show one such gradient more than it holds without tracing.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        # Storages die wherever the interpreter drops them, even between the two halves of a `+=`: they are queued
        # (append is atomic) and taken off before the next look.
        self._dead: deque[_Entry] = deque()
        self._live: dict[str, int] = {}
        self._window: dict[str, int] | None = None
        self._peak: dict[str, int] = {}
        self._mode = _Watch(self)

    def live(self, device: str = "cpu") -> int:
        """Bytes of the storages known to be alive now on devices of this type."""
        self._bury()
        return self._live.get(device, 0)

    def peak(self, device: str = "cpu") -> int:
        """The most bytes that were alive at once on devices of this type while tracing."""
        return max(self._peak.get(device, 0), (self._window or {}).get(device, 0))

    @contextmanager
    def tracing(self, resident: Iterable[Resident] = ()) -> Iterator[None]:
        """Watch all operators of this thread. A storage first seen as an input counts as live since the entry."""
        self.enter(resident)
        del resident  # this frame lasts as long as the block, and would keep it alive
        try:
            yield
        finally:
            self.leave()

    def enter(self, resident: Iterable[Resident] = ()) -> None:
        """Begin to watch; `leave` ends it. Prefer `tracing`."""
        self._bury()
        self._close_window()
        self.register(resident)
        self._window = dict(self._live)
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """Stop watching."""
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._close_window()

    def register(self, resident: Iterable[Resident]) -> None:
        """Count what is resident, unless it is known already."""
        for tensor in tensors_of(resident):
            self.see(tensor, created=False)

    def see(self, tensor: torch.Tensor, created: bool) -> None:
        """Count the storages behind `tensor`, unless they are known already.

        Args:
            tensor: an operator's input or output; only dense ones have a storage that can be counted.
            created: whether it came into being just now. If not, it was there all along, so the peak rises with it.
        """
        if parts := _parts(tensor):
            for part in parts:
                self.see(part, created)
            return
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        known = self._entries.get(id(storage))
        if known is not None and known.ref is not None and known.ref() is storage:
            if known.size != size:  # resize_, or storage().resize_() as FSDP and offloading do
                self._add(known.device, size - known.size, created=True)
                known.size = size
            return
        entry = _Entry(id(storage), size, tensor.device.type)
        entry.ref = weakref.ref(storage, _undertaker(self._dead, entry))
        self._entries[entry.key] = entry
        self._add(entry.device, size, created)

    def _add(self, device: str, size: int, created: bool) -> None:
        self._bury()
        live = self._live.get(device, 0) + size
        self._live[device] = live
        if self._window is None:
            return
        if created:
            self._window[device] = max(self._window.get(device, 0), live)
        else:
            self._window[device] = self._window.get(device, 0) + size

    def _bury(self) -> None:
        while self._dead:
            entry = self._dead.popleft()
            self._live[entry.device] -= entry.size
            if self._entries.get(entry.key) is entry:  # its address may belong to a new storage by now
                del self._entries[entry.key]

    def _close_window(self) -> None:
        for device, size in (self._window or {}).items():
            self._peak[device] = max(self._peak.get(device, 0), size)
        self._window = None


def _undertaker(dead: deque[_Entry], entry: _Entry) -> Callable[[weakref.ref[torch.UntypedStorage]], None]:
    # A lambda: jaxtyping's hook would compile a nested function anew for every storage.
    return lambda _: dead.append(entry)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Shows each operator's inputs and outputs to a `LiveStorages`."""

    def __init__(self, live: LiveStorages) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storages = live

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [*_tensors(args), *_tensors(kwargs.values())]
        # torch.tensor(...) fills its memory out of sight and shows it here for the first time.
        fresh = func is torch.ops.aten.lift_fresh.default
        for tensor in inputs:
            self._storages.see(tensor, created=fresh)
        if inputs and _is_composite(func, inputs[0].device.type):
            # Inference mode has no autograd layer that would take a composite operator apart before it comes here;
            # what it makes on its way would go unseen.
            with self:
                return func.decompose(*args, **kwargs)
        del inputs
        result = func(*args, **kwargs)
        for tensor in _tensors((result,)):
            self._storages.see(tensor, created=True)
        return result


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors inside a tensor subclass that only wraps others (quantized weights, DTensor); else none."""
    wrapper: Any = tensor
    return [getattr(wrapper, name) for name in wrapper.__tensor_flatten__()[0]] if _wraps(wrapper) else []


def _wraps(tensor: Any) -> bool:
    return is_traceable_wrapper_subclass(tensor)


@cache
def _is_composite(func: torch._ops.OpOverload, device: str) -> bool:
    """Whether the operator is only made of others on this device: then taking it apart changes nothing."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    name = str(func.name())  # type: ignore[no-untyped-call]
    # Weights that are kept elsewhere until their turn comes are on the device "meta".
    key = "Meta" if device == "meta" else device.upper()
    return has_kernel(name, "CompositeImplicitAutograd") and not has_kernel(name, key)


def tensors_of(resident: Iterable[Resident]) -> Iterator[torch.Tensor]:
    """All tensors behind the residents: parameters, their gradients, buffers, optimizer state."""
    for item in resident:
        if isinstance(item, nn.Module):
            held: Iterable[Any] = [*item.parameters(), *item.buffers()]
        elif isinstance(item, Optimizer):
            # Not the parameters: an optimizer of a part of a model does not make the rest resident, and that part is.
            held = [value for state in item.state.values() for value in state.values()]
        else:
            held = [item]
        for tensor in held:
            if isinstance(tensor, torch.Tensor):
                yield tensor
                if tensor.is_leaf and tensor.grad is not None:
                    yield tensor.grad
