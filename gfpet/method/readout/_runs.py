"""The work of stage `readout` as measured phases: cache L's activations once, then train readouts without L."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import EncodedExample, TaskData, head_of
from gfpet.lm.training import Observer, Outcome
from gfpet.memory import Measure
from gfpet.method.activation_cache import MakeRowStore
from gfpet.method.readout._inputs import ReadoutInputs, read_large
from gfpet.method.readout._module import Readout, layers_to_read, start_readout
from gfpet.method.readout._settings import ReadoutSettings
from gfpet.method.readout._train import fit_readout
from gfpet.pipeline import Phase


@dataclass(frozen=True)
class ReadLarge:
    """Everything of the large model that training a readout needs."""

    inputs: Mapping[str, ReadoutInputs]
    """By name of the set of examples."""
    head: Float[Tensor, "vocabulary d"]
    """The large model's output embedding."""
    layers_read: Mapping[str, tuple[int, ...]]

    def in_float32(self) -> ReadLarge:
        """A copy with the output embedding in float32. Call it after freeing the large model."""
        return replace(self, head=self.head.float())


def cache_inputs(
    large: LoadedModel,
    frozen: FrozenModel,
    texts: Mapping[str, Sequence[EncodedExample]],
    settings: ReadoutSettings,
    folder: Path,
    *,
    batch_size: int,
    pad: int,
    measure: Measure,
    store: MakeRowStore | None = None,
) -> ReadLarge:
    """Run the large model over all examples once, forward only; phase `cache`.

    Args:
        frozen: the large model, which counts its forward passes.
        texts: sets of examples by name.
        folder: holds the caches.
        batch_size: examples per forward pass.
        store: as in `gfpet.method.activation_cache.ActivationCache`.

    Raises:
        ConfigError: the activations exceed the budget.
    """
    dims, head = large.family.dims(large.model.config), head_of(large.model).detach()
    layers_read = layers_to_read(dims, settings.layers_read)
    with measure("cache", resident=[large.model]) as meter:
        inputs = {
            name: read_large(
                encoded,
                frozen,
                large.family,
                layers_read,
                dims.width,
                folder / f"activations-{name}",
                dtype=settings.dtype,
                budget=settings.budget,
                batch_size=batch_size,
                pad=pad,
                device=large.device,
                step=meter.step,
                store=store,
            )
            for name, encoded in texts.items()
        }
    return ReadLarge(inputs, head, layers_read)


def train_readout(
    read: ReadLarge, data: TaskData, settings: ReadoutSettings, *, name: str, seed: int, observer: Observer
) -> tuple[Readout, Outcome]:
    """Train a new readout on the inputs `train`, selected on `dev`; phase `train/<name>`."""
    readout = start_readout(
        read.layers_read,
        read.head.shape[1],
        bottleneck=settings.bottleneck,
        heads=settings.heads,
        head_width=settings.head_width,
        generator=torch.Generator().manual_seed(seed),
    ).to(read.head.device)
    with observer.measure(str(Phase("train", tag=name)), resident=[read.head, *readout.tensors.values()]) as meter:
        outcome = fit_readout(
            readout,
            read.head,
            data,
            read.inputs["train"],
            read.inputs["dev"],
            settings.loop,
            learning_rate=settings.learning_rate,
            seed=seed,
            hooks=observer.hooks(name, meter),
        )
    return readout, outcome
