"""The exact peak of live tensor bytes, from storages seen by a dispatch mode.

The dispatch mode sees the inputs and outputs of every operator. A tensor is a view of a storage, so this counts
storages: each once, with its `nbytes`, from the operator that made it until a weak reference reports its death. The
technique is that of `torch.distributed._tools.mem_tracker`, which needs modules, gradients and an optimizer. This one
needs operators only, so it also works under inference mode. It reads only sizes, so it also works under
`FakeTensorMode` (enter that first, this second).

Each storage has a label, and the labels of all storages alive at the peak are kept.

It cannot see buffers that a kernel allocates and frees inside one operator, or tensors that are neither residents nor
an operator's input or output.
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
    """One live storage. Keeps `size`, because a dead storage no longer has one."""

    __slots__ = ("device", "key", "label", "ref", "size")

    def __init__(self, key: int, size: int, device: str, label: Label) -> None:
        self.key = key
        self.size = size
        self.device = device
        self.label = label
        self.ref: weakref.ref[torch.UntypedStorage] | None = None


class _Peak:
    """The most live bytes on one device, and their labels."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parts: dict[Label, int] | None = None
        """None while the peak is now: the live storages are its parts. Copying at every new peak would be slow."""


class LiveStorages:
    """Counts the bytes of live storages, by device type (`cpu`, `cuda`, ...).

    It sees operators only inside `with live.tracing():`, and dying storages at any time. It keeps nothing alive and
    does not change any computed value. It may change memory in one case: under any dispatch mode, autograd sums the
    gradients of a tensor that is used twice into a new tensor, not in place. A traced backward pass may therefore
    hold one such gradient more.

    Args:
        modules: a model; labels then name the submodule whose forward pass made a storage. Slower.
    """

    def __init__(self, modules: nn.Module | None = None) -> None:
        self._entries: dict[int, _Entry] = {}
        # A storage may die at any point, even in the middle of a `+=`. So dead ones are queued (append is atomic) and
        # subtracted before the next read.
        self._dead: deque[_Entry] = deque()
        self._live: dict[str, int] = {}
        self._parts: dict[str, dict[Label, int]] = {}
        self._window: dict[str, _Peak] | None = None
        self._peaks: dict[str, _Peak] = {}
        self._watch = Watch(self.see, self.relabel, modules)

    def live(self, device: str = "cpu") -> int:
        """Bytes of the known storages alive now on devices of this type."""
        self._bury()
        return self._live.get(device, 0)

    def peak(self, device: str = "cpu") -> int:
        """Peak of live bytes on devices of this type while tracing."""
        return max(found.size if (found := peaks.get(device)) else 0 for peaks in (self._peaks, self._window or {}))

    def peak_split(self, device: str = "cpu") -> dict[Category, int]:
        """The peak's bytes by category; they add up to the peak."""
        split = dict.fromkeys(CATEGORIES, 0)
        for (category, _), size in self.peak_parts(device).items():
            split[category] += size
        return split

    def peak_parts(self, device: str = "cpu") -> dict[Label, int]:
        """The peak's bytes by category and module; call it after tracing."""
        peak = self._peaks.get(device)
        return {} if peak is None else {label: size for label, size in (peak.parts or {}).items() if size}

    @contextmanager
    def tracing(self, resident: Iterable[Resident] = ()) -> Iterator[None]:
        """Watch all operators of this thread. A storage first seen as an input counts as live from the start."""
        self.enter(resident)
        del resident  # this frame lives as long as the block, and would keep it alive
        try:
            yield
        finally:
            self.leave()

    def enter(self, resident: Iterable[Resident] = ()) -> None:
        """Start watching; `leave` stops it. Prefer `tracing`."""
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
        """Count the residents' storages that are not known yet, and set the category of all of them."""
        for tensor, category in labelled(resident):
            self.see(tensor, False, (category, ""))
            self.relabel(tensor, category)

    def see(self, tensor: torch.Tensor, created: bool, label: Label) -> None:
        """Count the storages of `tensor` that are not known yet.

        Args:
            tensor: an operator's input or output; only dense tensors have a storage to count.
            created: whether the operator just made it. If not, it was live from the start and raises the peak so far.
            label: label of a new storage.
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
        """Change a storage's category once its use is known: a gradient, optimizer state."""
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
        """If the peak is now, copy the live parts before some of them go."""
        peak = (self._window or {}).get(device)
        if peak is not None and peak.parts is None:
            peak.parts = dict(self._parts.get(device, {}))

    def _bury(self) -> None:
        while self._dead:
            entry = self._dead.popleft()
            self._leave_peak(entry.device)
            self._live[entry.device] -= entry.size
            self._parts[entry.device][entry.label] -= entry.size
            if self._entries.get(entry.key) is entry:  # a new storage may have the same address by now
                del self._entries[entry.key]

    def _close_window(self) -> None:
        for device, peak in (self._window or {}).items():
            self._leave_peak(device)
            if device not in self._peaks or peak.size >= self._peaks[device].size:
                self._peaks[device] = peak
        self._window = None


def _undertaker(dead: deque[_Entry], entry: _Entry) -> Callable[[weakref.ref[torch.UntypedStorage]], None]:
    # A lambda, because jaxtyping's hook would recompile a nested function for every storage.
    return lambda _: dead.append(entry)
