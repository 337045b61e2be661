"""Tuning by gradients: a module on a frozen model, or a whole model. The large model is tuned only as a reference."""

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
        data: a kind that starts from real text gets the longest of the first 64 training examples.

    Raises:
        ModelError: the family has no such target.
        ModuleError: the options do not fit the model or the text.
    """
    longest = max(data.train.encoded[:64], key=lambda example: example.rows[0].size)
    row = longest.rows[0]
    # The decoder of an encoder-decoder reads only a few tokens, so give it the encoder's text too.
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
    """Full fine-tuning: trains every weight of the model in place."""
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
"""Whether to recompute activations in the backward pass; `auto`: for models of 50M parameters or more."""
# From this size on, saving activation memory is worth the recomputation.
_CHECKPOINTED = 50_000_000


def wants_checkpointing(setting: Checkpointing, model: torch.nn.Module) -> bool:
    """Resolve a section's `gradient_checkpointing` for a model."""
    if setting == "auto":
        return sum(parameter.numel() for parameter in model.parameters()) >= _CHECKPOINTED
    return setting


@contextmanager
def checkpointing(model: Any, enabled: bool) -> Iterator[None]:
    """Recompute activations in the backward pass. Needs training mode in transformers; harmless, as dropout is 0."""
    if not enabled:
        yield
        return
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # Enabling also adds a hook, for reentrant checkpointing, that makes the embeddings require gradients. Nothing
    # else removes it.
    model.disable_input_require_grads()
    model.train()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.eval()
