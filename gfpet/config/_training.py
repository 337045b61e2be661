"""Sections of the stages that train: `derive`, `tune`, `reference`, `bridge`, `readout`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gfpet.config._section import (
    Distinct,
    Dtype,
    Fraction,
    Kind,
    NonNegative,
    Positive,
    PositiveFloat,
    Section,
    TuningMethod,
)
from gfpet.lm.registry import DEFAULT_KINDS, KINDS

Checkpointing = bool | Literal["auto"]
"""Recompute activations in the backward pass instead of keeping them; `auto`: in models of 50M parameters or more."""


class Loop(Section):
    """Options of every training loop."""

    epochs: Positive = 6
    batch_size: Positive = 32
    accumulation: Positive = 1
    """Batches whose gradients are summed for one optimizer step."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Fraction = 0.06
    """Fraction of all steps during which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: PositiveFloat = 1.0
    """Maximum gradient norm."""
    patience: NonNegative = 3
    """Epochs without a better held-out score before training stops; 0 never stops early. A perfect score with almost no
    loss stops at once."""
    checkpoint_every: Positive = 50
    """Optimizer steps between two resumable checkpoints."""


class Optimisation(Loop):
    """Options of a training loop through a language model."""

    gradient_checkpointing: Checkpointing = "auto"
    """See `Checkpointing`."""


class Heal(Optimisation):
    """Distils the large model into a model that was cut out of it, on text without labels."""

    epochs: NonNegative = 0
    """0: no distillation."""
    batch_size: Positive = 8
    examples: Positive = 1024
    """Contexts of training examples to learn from, over all tasks, without the answers."""
    learning_rate: PositiveFloat = 3e-4


class Derive(Section):
    """Stage `derive`: makes the small model from the large one if `models.<family>.small.path` is `derive`."""

    layers: PositiveFloat = 0.34
    """Blocks to keep: below 1 a fraction of the large model's blocks, from 1 their number."""
    choice: Literal["angular", "cka", "even"] = "angular"
    """Blocks to drop: those whose output is most similar to their input, by angle or by CKA; or evenly spaced ones."""
    examples: Positive = 64
    """Contexts of training examples on which the similarity is measured."""
    heal: Heal = Heal()

    @model_validator(mode="after")
    def _whole_number(self) -> Derive:
        if self.layers >= 1 and self.layers != int(self.layers):
            raise ValueError(f"layers is {self.layers:g}: a part of the layers is below 1, a number of them whole")
        return self


def _learning_rates() -> dict[Kind, float]:
    return {name: entry.learning_rate for name, entry in KINDS.items()}


class Tune(Optimisation):
    """Stage `tune`: trains a module on the small model."""

    epochs: Positive = 8
    learning_rate: dict[Kind, PositiveFloat] = Field(default_factory=_learning_rates)


class Reference(Optimisation):
    """Stage `reference`: tunes the large model with gradients, the ceiling for every comparison."""

    epochs: Positive = 4
    gradient_checkpointing: Checkpointing = False
    dtype: Dtype = "float32"
    """Data type of L's weights in this stage; `models.<family>.large.dtype` holds where L only runs forward."""
    methods: Distinct[TuningMethod] = DEFAULT_KINDS
    """`full` takes the most time and memory. Without methods, the columns that need them stay empty."""
    learning_rate: dict[TuningMethod, PositiveFloat] = Field(
        default_factory=lambda: {"full": 3e-4, **_learning_rates()}
    )


class Activations(Section):
    """The large model's activations that the Bridge reads."""

    store: Literal["auto", "full", "projected", "recompute"] = "auto"
    """`full` width, `projected` to the Bridge's residual coordinates, or `recompute`; `auto`: the first that fits."""
    dtype: Dtype = "float32"
    budget_gb: PositiveFloat = 2.0
    """Disk space for one task's activation cache, in units of 10^9 bytes."""


class Bridge(Optimisation):
    """Stage `bridge`: fine-tunes module, `W_plug`, `W_down` and the Bridge together."""

    epochs: NonNegative = 4
    """0: no Bridge is trained, and S's module is plugged through the initial `W_plug`."""
    learning_rate: PositiveFloat = 1e-3
    """Of the module and of `W_plug`."""
    bridge_learning_rate: PositiveFloat = 1e-3
    """Of the Bridge's own weights and its ladder."""
    train_bridge: bool = True
    """Whether the Bridge's own weights are trained."""
    w_down: Literal["auto", "learned", "selection"] = "auto"
    """`selection`: fixed selection of the Bridge's coordinates; `learned`: trained from that start. `auto`: learned if
    it has at most 10M values."""
    temperature: PositiveFloat = 0.1
    """T of the ladder's gate sigmoid(a / T)."""
    activations: Activations = Activations()


class Readout(Loop):
    """Stage `readout`: trains a readout, a side network on the large model's frozen activations."""

    epochs: Positive = 8
    learning_rate: PositiveFloat = 3e-3
    layers_read: Positive = 8
    """Number of layers read in each stack (their residual stream), evenly spaced over its depth."""
    bottleneck: Positive = 32
    """Width to which each layer read is projected; a multiple of `heads`."""
    heads: Positive = 4
    """Attention heads for each layer read."""
    head_width: Positive = 16
    """Width of queries and keys."""
    dtype: Dtype = "float32"
    """Data type of the cached activations."""
    budget_gb: PositiveFloat = 2.0
    """Disk space for one task's activation cache, in units of 10^9 bytes."""

    @model_validator(mode="after")
    def _whole_heads(self) -> Readout:
        if self.bottleneck % self.heads:
            raise ValueError(f"bottleneck is {self.bottleneck}: not a multiple of heads, {self.heads}")
        return self
