"""The exact peak of live tensor bytes, by watching storages under a dispatch mode.

Every operator that reaches the dispatcher hands us its inputs and outputs. A tensor is only a view of a storage, so
storages are what is counted: each once, `nbytes` of it, from the operator that made it until its last owner lets go of
it, which a weak reference tells. The technique is that of `torch.distributed._tools.mem_tracker`, which needs modules,
gradients and an optimizer to work; this one needs nothing but operators, so that it also runs under inference mode
and, since it asks for sizes only, under `FakeTensorMode` (enter that first, this second).

Each storage carries a label, what it is for, and the labels of all that is alive at the peak are kept.

What it cannot see: buffers that a kernel takes and returns inside one operator, and tensors that nobody hands to an
operator and that are not among the residents.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gfpet.memory._labels import CATEGORIES, Category, Label, Resident, labelled
from gfpet.memory._watch import Watch, parts_of


class _Entry:
    """One live storage. `size` is kept because a dead storage cannot be asked any more."""

    __slots__ = ("device", "key", "label", "ref", "size")

    def __init__(self, key: int, size: int, device: str, label: Label) -> None:
        self.key = key
        self.size = size
        self.device = device
        self.label = label
        self.ref: weakref.ref[torch.UntypedStorage] | None = None


class _Peak:
    """The most bytes at once on one device, and what they were."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: dict[Label, int] | None = None
        """None while the peak is now: then what is alive tells. A copy at every new peak would take long."""


class LiveStorages:
    """Counts the bytes of live storages, by device type (`cpu`, `cuda`, ...).

    Operators are seen only inside `with live.tracing():`; storages that die are noticed at any time. Nothing is kept
    alive. Results are the same bit for bit as without, with one caveat on memory: while any dispatch mode is on,
    autograd adds up the gradients of a tensor that is used twice into a new tensor, not in place, so that a backward
    pass may show one such gradient more than it holds without tracing.

    Args:
        modules: a model whose parts are noted as the makers of what their forward passes make; slower.
    """

    def __init__(self, modules: nn.Module | None = None) -> None:
        self._entries: dict[int, _Entry] = {}
        # Storages die wherever the interpreter drops them, even between the two halves of a `+=`: they are queued
        # (append is atomic) and taken off before the next look.
        self._dead: deque[_Entry] = deque()
        self._live: dict[str, int] = {}
        self._parts: dict[str, dict[Label, int]] = {}
        self._window: dict[str, _Peak] | None = None
        self._peaks: dict[str, _Peak] = {}
        self._watch = Watch(self.see, self.relabel, modules)

    def live(self, device: str = "cpu") -> int:
        """Bytes of the storages known to be alive now on devices of this type."""
        self._bury()
        return self._live.get(device, 0)

    def peak(self, device: str = "cpu") -> int:
        """The most bytes that were alive at once on devices of this type while tracing."""
        return max(found.size if (found := peaks.get(device)) else 0 for peaks in (self._peaks, self._window or {}))

    def peak_split(self, device: str = "cpu") -> dict[Category, int]:
        """What the peak was made of; adds up to it."""
        split = dict.fromkeys(CATEGORIES, 0)
        for (category, _), size in self.peak_parts(device).items():
            split[category] += size
        return split

    def peak_parts(self, device: str = "cpu") -> dict[Label, int]:
        """The same by category and module; call it when tracing is over."""
        peak = self._peaks.get(device)
        return {} if peak is None else {label: size for label, size in (peak.parts or {}).items() if size}

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
        items = list(resident)
        self.register(items)
        self._window = {device: _Peak(size) for device, size in self._live.items()}
        self._watch.begin(items)

    def leave(self) -> None:
        """Stop watching."""
        self._watch.end()
        self._bury()
        self._close_window()

    def register(self, resident: Iterable[Resident]) -> None:
        """Count what is resident, unless it is known already, under the category that it has."""
        for tensor, category in labelled(resident):
            self.see(tensor, False, (category, ""))
            self.relabel(tensor, category)

    def see(self, tensor: torch.Tensor, created: bool, label: Label) -> None:
        """Count the storages behind `tensor`, unless they are known already.

        Args:
            tensor: an operator's input or output; only dense ones have a storage that can be counted.
            created: whether it came into being just now. If not, it was there all along, so the peak rises with it.
            label: what it is, if it is not known.
        """
        if parts := parts_of(tensor):
            for part in parts:
                self.see(part, created, label)
            return
        if tensor.layout is not torch.strided:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        known = self._find(storage)
        if known is not None:
            if known.size != size:  # resize_, or storage().resize_() as FSDP and offloading do
                self._add(known.device, known.label, size - known.size, created=True)
                known.size = size
            return
        entry = _Entry(id(storage), size, tensor.device.type, label)
        entry.ref = weakref.ref(storage, _undertaker(self._dead, entry))
        self._entries[entry.key] = entry
        self._add(entry.device, label, size, created)

    def relabel(self, tensor: torch.Tensor, category: Category) -> None:
        """A storage turns out to be something else than what it was made as: a gradient, optimizer state."""
        for part in parts_of(tensor) or [tensor]:
            entry = self._find(part.untyped_storage()) if part.layout is torch.strided else None
            if entry is not None and entry.label[0] != category:
                parts = self._parts[entry.device]
                parts[entry.label] -= entry.size
                entry.label = (category, entry.label[1])
                parts[entry.label] = parts.get(entry.label, 0) + entry.size

    def _find(self, storage: torch.UntypedStorage) -> _Entry | None:
        entry = self._entries.get(id(storage))
        return entry if entry is not None and entry.ref is not None and entry.ref() is storage else None

    def _add(self, device: str, label: Label, size: int, created: bool) -> None:
        self._bury()
        if size < 0:
            self._leave_peak(device)
        live = self._live.get(device, 0) + size
        parts = self._parts.setdefault(device, {})
        self._live[device] = live
        parts[label] = parts.get(label, 0) + size
        if self._window is None:
            return
        peak = self._window.setdefault(device, _Peak(0))
        if not created:
            peak.size += size
            if peak.parts is not None:
                peak.parts[label] = peak.parts.get(label, 0) + size
        elif live >= peak.size:
            peak.size, peak.parts = live, None

    def _leave_peak(self, device: str) -> None:
        """Copy what is alive at the peak, before some of it is gone."""
        peak = (self._window or {}).get(device)
        if peak is not None and peak.parts is None:
            peak.parts = dict(self._parts.get(device, {}))

    def _bury(self) -> None:
        while self._dead:
            entry = self._dead.popleft()
            self._leave_peak(entry.device)
            self._live[entry.device] -= entry.size
            self._parts[entry.device][entry.label] -= entry.size
            if self._entries.get(entry.key) is entry:  # its address may belong to a new storage by now
                del self._entries[entry.key]

    def _close_window(self) -> None:
        for device, peak in (self._window or {}).items():
            self._leave_peak(device)
            if device not in self._peaks or peak.size >= self._peaks[device].size:
                self._peaks[device] = peak
        self._window = None


def _undertaker(dead: deque[_Entry], entry: _Entry) -> Callable[[weakref.ref[torch.UntypedStorage]], None]:
    # A lambda: jaxtyping's hook would compile a nested function anew for every storage.
    return lambda _: dead.append(entry)
