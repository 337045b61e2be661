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
    """What every training loop takes."""

    epochs: Positive = 6
    batch_size: Positive = 32
    accumulation: Positive = 1
    """Batches whose gradients are summed before one optimizer step."""
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Fraction = 0.06
    """Part of all steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    clip: PositiveFloat = 1.0
    """Largest norm of the gradient."""
    patience: NonNegative = 3
    """Epochs without a better held-out score before training stops, which a perfect score with next to no loss does
    at once; 0 never stops early."""
    checkpoint_every: Positive = 50
    """Optimizer steps between two resumable checkpoints."""


class Optimisation(Loop):
    """What a training loop through a model takes."""

    gradient_checkpointing: Checkpointing = "auto"
    """Recompute activations in the backward pass; `auto`: in models of 50M parameters or more."""


class Heal(Optimisation):
    """Distilling the large model into one that was cut out of it, on text without labels."""

    epochs: NonNegative = 0
    """0 leaves the model as it was cut out."""
    batch_size: Positive = 8
    examples: Positive = 1024
    """Contexts of training examples (over all tasks, answers left out) to learn from."""
    learning_rate: PositiveFloat = 3e-4


class Derive(Section):
    """Stage `derive`: a small model out of the large one, where `models.<family>.small.path` is `derive`."""

    layers: PositiveFloat = 0.34
    """Blocks that stay: below 1 a part of the large model's, from 1 on their number."""
    choice: Literal["angular", "cka", "even"] = "angular"
    """Which go: those whose output is most like their input, by angle or by CKA; or evenly spread ones."""
    examples: Positive = 64
    """Contexts of training examples that the likeness is measured on."""
    heal: Heal = Heal()

    @model_validator(mode="after")
    def _whole_number(self) -> Derive:
        if self.layers >= 1 and self.layers != int(self.layers):
            raise ValueError(f"layers is {self.layers:g}: a part of the layers is below 1, a number of them whole")
        return self


def _learning_rates() -> dict[Kind, float]:
    return {name: entry.learning_rate for name, entry in KINDS.items()}


class Tune(Optimisation):
    """Stage `tune`: a module on the small model."""

    epochs: Positive = 8
    learning_rate: dict[Kind, PositiveFloat] = Field(default_factory=_learning_rates)


class Reference(Optimisation):
    """Stage `reference`: the large model by gradients, the ceiling that everything is compared with."""

    epochs: Positive = 4
    gradient_checkpointing: Checkpointing = False
    dtype: Dtype = "float32"
    """Data type of L's weights here, whatever it is where L only runs forward."""
    methods: Distinct[TuningMethod] = DEFAULT_KINDS
    """Full fine-tuning takes the most time and memory. An empty list leaves the columns that need them empty."""
    learning_rate: dict[TuningMethod, PositiveFloat] = Field(
        default_factory=lambda: {"full": 3e-4, **_learning_rates()}
    )


class Activations(Section):
    """The large model's activations that the Bridge reads."""

    store: Literal["auto", "full", "projected", "recompute"] = "auto"
    """`full` width, `projected` to the Bridge's residual coordinates, or recomputed; `auto`: the first that fits."""
    dtype: Dtype = "float32"
    budget_gb: PositiveFloat = 2.0
    """Disk that one task's cache may take, in units of 10^9 bytes."""


class Bridge(Optimisation):
    """Stage `bridge`: module, `W_plug`, `W_down` and the Bridge are fine-tuned together."""

    epochs: NonNegative = 4
    """0: no Bridge is trained, and S's module is plugged through `W_plug` as it starts."""
    learning_rate: PositiveFloat = 1e-3
    """For the module and its maps."""
    bridge_learning_rate: PositiveFloat = 1e-3
    """For the Bridge's own weights and its ladder."""
    train_bridge: bool = True
    """Whether the Bridge's own weights are trained."""
    w_down: Literal["auto", "learned", "selection"] = "auto"
    """`learned`: trained from the selection of the Bridge's coordinates on; `selection`: stays it. `auto`: learned
    where it has at most 10M values."""
    temperature: PositiveFloat = 0.1
    """T of the ladder's gate sigmoid(a / T)."""
    activations: Activations = Activations()


class Readout(Loop):
    """Stage `readout`: a direct write, trained on the large model's activations."""

    epochs: Positive = 8
    learning_rate: PositiveFloat = 3e-3
    layers_read: Positive = 8
    """Points of a stack whose residual stream is read, evenly spaced over its depth."""
    bottleneck: Positive = 32
    """Width of what is read; a multiple of `heads`."""
    heads: Positive = 4
    """Attention heads a tap."""
    head_width: Positive = 16
    """Width of their queries and keys."""
    dtype: Dtype = "float32"
    """Of the cached activations."""
    budget_gb: PositiveFloat = 2.0
    """Disk that one task's cache may take, in units of 10^9 bytes."""

    @model_validator(mode="after")
    def _whole_heads(self) -> Readout:
        if self.bottleneck % self.heads:
            raise ValueError(f"bottleneck is {self.bottleneck}: not a multiple of heads, {self.heads}")
        return self
