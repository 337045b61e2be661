"""Trains module, `W_plug`, `W_down` and Bridge together. Algorithm 1, steps 4 and 5 of the paper.

module of S ──W_plug──► module in L's spaces ──W_down──► module in the Bridge ──► loss on the task
   trained    trained    (plugged into L)       trained       trained: Bridge and its ladder
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gfpet.lm.families import Dims, Family, stack_of
from gfpet.lm.modules import PetModule, inserted, trained_tensors
from gfpet.lm.scoring import Batch, Predictions, Split, TaskData, backward_loss, dev_score, head_of, predict
from gfpet.lm.training import Group, Hooks, Outcome, Settings, checkpointing, train
from gfpet.memory import Step, no_step
from gfpet.method.activation_cache import Activations
from gfpet.method.bridge._ladder import Ladder, laddered
from gfpet.method.plug import LOW_RANK, LayerAssignment, Projection, duplicated, plugged, projected, spaces_of
from gfpet.method.prune import Bridge, Kept


@dataclass(frozen=True)
class Transfer:
    """A module with its maps from S through L's spaces to the Bridge. Every tensor may be trained."""

    module: PetModule
    """In S's spaces."""
    w_plug: Projection
    w_down: Projection
    pairs: LayerAssignment
    divide_by_copies: bool
    update: Literal["full", "low_rank", "none"] = "full"
    """The trained part of `W_plug`."""
    down: Literal["learned", "selection"] = "learned"
    """Whether `W_down` is trained."""
    short: Projection | None = None
    """`W_plug` and `W_down` composed, if the matrices of neither are trained; else None. It holds only the Bridge's
    coordinates of `W_plug`, which may then stay in its file. The low-rank updates of `W_plug` then have only these
    coordinates, too: the others would start at zero and never get a gradient."""

    def in_large(self) -> PetModule:
        """The module in L's spaces, ready to be plugged into L."""
        return plugged(self.module, self._whole(), self.pairs, divide_by_copies=self.divide_by_copies)

    def in_bridge(self) -> PetModule:
        """The module in the Bridge's spaces."""
        if self.short is None:
            return projected(self.in_large(), self.w_down)
        updates = {name: getattr(self.w_plug, name) for name in LOW_RANK}
        copies = duplicated(self.module, self.pairs, divide_by_copies=self.divide_by_copies)
        return projected(copies, replace(self.short, **updates))

    @property
    def trained(self) -> dict[str, Tensor]:
        """The trained tensors: module, the trained part of `W_plug`, and `W_down` unless it stays a selection."""
        tensors = {f"module/{name}": tensor for name, tensor in trained_tensors(self.module).items()}
        tensors |= _maps("w_plug", self.w_plug, self._updated)
        return tensors | (_maps("w_down", self.w_down, ("reads", "writes")) if self.down == "learned" else {})

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in memory."""
        maps = [self.w_plug, self.w_down, *([self.short] if self.short else [])]
        return [*self.module.tensors.values(), *(tensor for each in maps for tensor in each.held)]

    def plug_update(self) -> Projection:
        """The trained part of `W_plug` at all coordinates of L: matrices, low-rank updates, or nothing."""
        return Projection.of(_maps("", self._whole(), self._updated))

    @property
    def _updated(self) -> Sequence[str]:
        return {"full": ("reads", "writes"), "low_rank": LOW_RANK, "none": ()}[self.update]

    def _whole(self) -> Projection:
        return self.w_plug if self.short is None else self.w_plug.spread(self.w_down)


def _maps(title: str, projection: Projection, fields: Sequence[str]) -> dict[str, Tensor]:
    """Some fields of a projection. Offsets are never among them: they keep their closed-form values."""
    prefix = f"{title}/" if title else ""
    return {f"{prefix}{name}/{space}": each for name in fields for space, each in getattr(projection, name).items()}


def selection(
    module: PetModule, family: Family, kept: Kept, dims: Dims, w_down: Literal["learned", "selection"] = "learned"
) -> Projection:
    """`W_down` as the selection of the Bridge's coordinates: `D` and `E` are rows of the identity.

    Args:
        module: in the large model's spaces.
        dims: the large model's sizes.
        w_down: `learned` gives matrices to train, `selection` gives indices.
    """

    def rows(space: str) -> Tensor:
        target_name, side = space.rsplit(".", 1)
        target = family.target(target_name)
        axis, stack = target.reads if side == "in" else target.writes, stack_of(space)
        indices = [kept.axis(stack, axis, layer) for layer in module.layers[stack]]
        if w_down == "selection":
            return torch.stack(indices)
        identity = torch.eye(dims.size(stack, axis))
        return torch.stack([identity[index] for index in indices])

    reads, writes = spaces_of(module)
    return Projection(
        reads={
            space: rows(space) if w_down == "selection" else rows(space).transpose(1, 2).contiguous()
            for space in sorted(reads)
        },
        writes={space: rows(space) for space in sorted(writes)},
    )


# Above this many values, AdamW's 16 bytes per value exceed the rest of the Bridge.
_MANY = 10_000_000


def start_transfer(
    module: PetModule,
    maps: Projection,
    pairs: LayerAssignment,
    family: Family,
    kept: Kept,
    dims: Dims,
    *,
    divide_by_copies: bool,
    update: Literal["auto", "full", "low_rank", "none"],
    update_rank: int,
    w_down: Literal["auto", "learned", "selection"],
    seed: int,
) -> Transfer:
    """The module tuned on S, `W_plug` before training, `W_down` as a selection.

    Args:
        maps: `W_plug`, on the module's device. Maps in their file (`Projection.open`) stay there if only the Bridge's
            coordinates are needed.
        dims: the large model's sizes.
        seed: of the low-rank updates.
    """
    shapes = {
        direction: {space: linears_of[space].shape for space in linears_of}
        for direction, linears_of in (("reads", maps.reads), ("writes", maps.writes))
    }
    if update == "auto":
        values = sum(shape.numel() for each in shapes.values() for shape in each.values())
        update = "full" if values <= _MANY else "low_rank"
    if update == "low_rank":
        maps = maps.with_updates(update_rank, torch.Generator().manual_seed(seed))
    start = plugged(module, maps, pairs, divide_by_copies=divide_by_copies)
    down = selection(start, family, kept, dims, "selection")
    if w_down == "auto":
        values = sum(index.numel() * shapes["reads"][space][2] for space, index in down.reads.items())
        values += sum(index.numel() * shapes["writes"][space][1] for space, index in down.writes.items())
        w_down = "learned" if values <= _MANY else "selection"
    if w_down == "learned":
        down = selection(start, family, kept, dims, "learned")
    device = next(iter(module.tensors.values())).device
    down = down.to(device, torch.float32)
    short = None
    own = all(shapes[name][space][0] == len(index) for name in shapes for space, index in getattr(down, name).items())
    if w_down == "selection" and update != "full" and own:
        short = maps.selected(down)
        maps = replace(maps, read_right=short.read_right, write_right=short.write_right)
        short = replace(short, **{name: {} for name in LOW_RANK})
    else:
        maps = maps.to(device, torch.float32)
    return Transfer(module, maps, down, pairs, divide_by_copies, update, w_down, short)


def fit_bridge(
    bridge: Bridge,
    family: Family,
    ladder: Ladder,
    transfer: Transfer,
    data: TaskData,
    train_activations: Activations,
    dev_activations: Activations,
    settings: Settings,
    *,
    learning_rate: float,
    bridge_learning_rate: float,
    train_bridge: bool,
    seed: int,
    gradient_checkpointing: bool,
    hooks: Hooks,
) -> Outcome:
    """Train Bridge, ladder and transfer in place; afterwards, plug `transfer.in_large()` into L."""
    return fit_ladder(
        bridge,
        family,
        ladder,
        lambda: inserted(bridge.model, family, transfer.in_bridge()),
        [Group(transfer.trained, learning_rate)],
        data,
        train_activations,
        dev_activations,
        settings,
        bridge_learning_rate=bridge_learning_rate,
        train_bridge=train_bridge,
        seed=seed,
        gradient_checkpointing=gradient_checkpointing,
        hooks=hooks,
    )


def fit_ladder(
    bridge: Bridge,
    family: Family,
    ladder: Ladder,
    insert: Callable[[], AbstractContextManager[None]],
    groups: Sequence[Group],
    data: TaskData,
    train_activations: Activations,
    dev_activations: Activations,
    settings: Settings,
    *,
    bridge_learning_rate: float,
    train_bridge: bool,
    seed: int,
    gradient_checkpointing: bool,
    hooks: Hooks,
) -> Outcome:
    """Train the Bridge with its ladder and the module that `insert` adds. Without a module it is Ladder Side-Tuning.

    Args:
        groups: tensors to train besides Bridge and ladder.
    """
    own = {f"bridge/{name}": weight for name, weight in bridge.model.named_parameters()} if train_bridge else {}
    head = head_of(bridge.model)

    def evaluate() -> tuple[float, float]:
        with torch.no_grad(), laddered(bridge.model, family, ladder) as backbone, insert():
            return dev_score(data, backbone(dev_activations), head, batch_size=settings.batch_size)

    def backward(batch: Batch, weight: float) -> Tensor:
        mixing = laddered(bridge.model, family, ladder, recompute=gradient_checkpointing)
        with mixing as backbone, insert():
            return backward_loss(backbone(train_activations), head, batch, weight)

    with checkpointing(bridge.model, gradient_checkpointing):
        return train(
            [*groups, Group(ladder.tensors | own, bridge_learning_rate)],
            backward,
            data.train.encoded,
            evaluate,
            settings,
            seed=seed,
            pad=data.pad,
            device=head.device,
            hooks=hooks,
        )


def predict_with_bridge(
    bridge: Bridge,
    family: Family,
    ladder: Ladder,
    transfer: Transfer,
    split: Split,
    activations: Activations,
    *,
    batch_size: int,
    pad: int,
    step: Step = no_step,
) -> Predictions:
    """Predictions of the Bridge alone with the module: ladder side-tuning with S's module (the paper's Table 8)."""
    with (
        torch.no_grad(),
        laddered(bridge.model, family, ladder) as backbone,
        inserted(bridge.model, family, transfer.in_bridge()),
    ):
        hidden = backbone(activations)
        return predict(split.encoded, hidden, head_of(bridge.model), batch_size=batch_size, pad=pad, step=step)
