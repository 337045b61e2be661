"""Tuning by gradients: a module on a frozen model, or all of a model. The large one only comes here as a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import KINDS, Options, PetModule, inserted, trained_tensors
from gfpet.lm.scoring import Batch, TaskData, backbone_of, backward_loss, collate, dev_score, head_of
from gfpet.lm.training._loop import NO_HOOKS, Group, Hooks, Outcome, Settings, train


def start_module(kind: str, loaded: LoadedModel, options: Options, data: TaskData, *, seed: int) -> PetModule:
    """A new module for the model, on its device.

    Args:
        options: the kind's section of `modules` in params.yaml.
        data: a kind that starts from real text gets the longest training text among the first 64 examples.

    Raises:
        ModelError: the family has no such target.
        ModuleError: the options do not fit the model or the text.
    """
    longest = max(data.train.encoded[:64], key=lambda example: example.rows[0].size)
    row = longest.rows[0]
    # A decoder behind an encoder reads a few tokens only; here it reads the encoder's text too.
    longest = replace(longest, rows=(replace(row, tokens=row.tokens + row.source),))
    texts = collate([longest], pad=data.pad).to(loaded.device).texts
    generator = torch.Generator().manual_seed(seed)
    module = KINDS[kind].start(loaded.model, loaded.family, options, texts, generator)
    return module.to(loaded.device, torch.float32)


def tune_module(
    loaded: LoadedModel,
    module: PetModule,
    data: TaskData,
    settings: Settings,
    *,
    learning_rate: float,
    seed: int,
    gradient_checkpointing: bool = False,
    hooks: Hooks = NO_HOOKS,
) -> tuple[PetModule, Outcome]:
    """Train a copy of a module; the model's own weights stay frozen. Returns the best epoch's module."""
    module = module.detached()

    def insert() -> AbstractContextManager[None]:
        return inserted(loaded.model, loaded.family, module)

    with checkpointing(loaded.model, gradient_checkpointing):
        group = Group(trained_tensors(module), learning_rate)
        outcome = _fit(loaded, insert, group, data, settings, seed=seed, hooks=hooks)
    return module.detached(), outcome


def tune_all(
    loaded: LoadedModel,
    data: TaskData,
    settings: Settings,
    *,
    learning_rate: float,
    seed: int,
    gradient_checkpointing: bool = False,
    hooks: Hooks = NO_HOOKS,
) -> Outcome:
    """Full fine-tuning: every weight of the model is trained, in place."""
    group = Group(dict(loaded.model.named_parameters()), learning_rate)
    with checkpointing(loaded.model, gradient_checkpointing):
        return _fit(loaded, nullcontext, group, data, settings, seed=seed, hooks=hooks)


def _fit(
    loaded: LoadedModel,
    insert: Callable[[], AbstractContextManager[None]],
    group: Group,
    data: TaskData,
    settings: Settings,
    *,
    seed: int,
    hooks: Hooks,
) -> Outcome:
    backbone, head = backbone_of(loaded.model, loaded.family), head_of(loaded.model)

    def backward(batch: Batch, weight: float) -> Tensor:
        with insert():
            return backward_loss(backbone, head, batch, weight)

    def evaluate() -> tuple[float, float]:
        with insert():
            return dev_score(data, backbone, head, batch_size=settings.batch_size)

    return train(
        [group],
        backward,
        data.train.encoded,
        evaluate,
        settings,
        seed=seed,
        pad=data.pad,
        device=loaded.device,
        hooks=hooks,
    )


Checkpointing = bool | Literal["auto"]
"""Recompute activations in the backward pass; `auto`: in models of 50M parameters or more."""
# From this size on, the memory of all activations costs more than the time to compute them twice.
_CHECKPOINTED = 50_000_000


def wants_checkpointing(setting: Checkpointing, model: torch.nn.Module) -> bool:
    """What a section's `gradient_checkpointing` means for a model."""
    if setting == "auto":
        return sum(parameter.numel() for parameter in model.parameters()) >= _CHECKPOINTED
    return setting


@contextmanager
def checkpointing(model: Any, enabled: bool) -> Iterator[None]:
    """Recompute activations in the backward pass; transformers does it only in training mode (dropout is 0 anyway)."""
    if not enabled:
        yield
        return
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # It also hooks the embeddings, so that they ask for gradients, for reentrant checkpointing; and never unhooks them.
    model.disable_input_require_grads()
    model.train()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.eval()
