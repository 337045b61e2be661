"""The one training loop. The caller's `backward` decides what is trained, and through which model."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from gfpet.errors import NumberError
from gfpet.lm.scoring import Batch, EncodedExample, collate
from gfpet.lm.training._checkpoint import BestValues, Progress, load_checkpoint, save_checkpoint
from gfpet.memory import Step, no_step

_SETTLED = 0.01
"""A perfect held-out score ends training once the held-out loss is below this (nats per example)."""


@dataclass(frozen=True)
class Settings:
    """How to train; `params.yaml` explains each setting (sections tune, reference, bridge)."""

    epochs: int
    batch_size: int
    accumulation: int = 1
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int = 0
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Group:
    """Parameters with a learning rate of their own."""

    parameters: Mapping[str, Tensor]
    learning_rate: float


@dataclass(frozen=True)
class Outcome:
    """Result of a training run. The parameters hold the best epoch's values."""

    steps: int
    epochs: int
    best_epoch: int
    best_score: float
    best_loss: float
    resumed_at: int
    """Optimizer step at which the run resumed; 0 if it did not resume."""


@dataclass(frozen=True)
class Hooks:
    """How a caller observes a training run; all optional."""

    checkpoint: Path | None = None
    """File to resume from, written every `Settings.checkpoint_every` steps and after each epoch."""
    log: Callable[[str, int, float], None] = lambda *_: None
    """Takes `(series, step, value)`."""
    step: Step = no_step
    """Opened around each optimizer step, with the largest padded size of its batches."""
    title: str = "train"
    quiet: bool = False
    """No progress bar."""


NO_HOOKS = Hooks()

Backward = Callable[[Batch, float], Tensor]
"""`backward(batch, weight)` runs the forward and backward pass of `weight * loss`; returns the loss, detached."""


def learning_rate_factor(step: int, steps: int, schedule: str, warmup: float) -> float:
    """Factor on the learning rate at a step (the first is 0)."""
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    left = (steps - step) / max(1, steps - rise)
    match schedule:
        case "linear":
            return left
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * (1 - left)))
        case _:
            return 1.0


def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """Order of the examples in an epoch. Depends on seed and epoch only, so a resumed run uses the same order."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def train(
    groups: Sequence[Group],
    backward: Backward,
    encoded: Sequence[EncodedExample],
    evaluate: Callable[[], tuple[float, float]],
    settings: Settings,
    *,
    seed: int,
    pad: int,
    device: torch.device,
    hooks: Hooks = NO_HOOKS,
) -> Outcome:
    """Train with AdamW until the last epoch or until the held-out score stops rising; keeps the best epoch.

    Unless `settings.patience` is 0, a perfect score with almost no loss ends training, too.

    Args:
        groups: leaf tensors, changed in place.
        evaluate: held-out `(score, loss)` of the current parameters; called after every epoch.

    Raises:
        NumberError: a loss or a held-out score is not finite; says when, and the likely cause.
    """
    parameters = {name: tensor for group in groups for name, tensor in group.parameters.items()}
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": list(group.parameters.values()), "lr": group.learning_rate} for group in groups],
        weight_decay=settings.weight_decay,
        foreach=False,  # the default on a GPU holds the updates of all parameters at once
    )
    per_step = settings.batch_size * settings.accumulation
    steps_per_epoch = math.ceil(len(encoded) / per_step)
    steps = steps_per_epoch * settings.epochs
    progress, best = Progress(), BestValues(parameters, hooks.checkpoint)
    if hooks.checkpoint is not None and hooks.checkpoint.exists():
        progress = load_checkpoint(hooks.checkpoint, parameters, optimizer)
    else:
        best.keep()
    resumed_at = progress.step

    def keep() -> None:
        if hooks.checkpoint is not None:
            save_checkpoint(hooks.checkpoint, progress, parameters, optimizer)

    shown = {"mininterval": 2.0, "file": sys.stderr, "dynamic_ncols": True, "disable": hooks.quiet}
    bar = tqdm(total=steps, initial=progress.step, desc=hooks.title, **shown)
    with bar:
        while not progress.finished:
            order = epoch_order(len(encoded), seed, progress.epoch)
            for number in range(progress.batch, steps_per_epoch):
                factor = learning_rate_factor(progress.step, steps, settings.schedule, settings.warmup)
                for group, wanted in zip(optimizer.param_groups, groups, strict=True):
                    group["lr"] = wanted.learning_rate * factor
                chosen = order[number * per_step : (number + 1) * per_step]
                if settings.accumulation > 1:
                    # Sort by length to reduce padding; the sum over the step stays the same.
                    chosen.sort(key=lambda index: -max(row.size for row in encoded[index].rows))
                batches = [
                    collate([encoded[index] for index in chosen[start : start + settings.batch_size]], pad=pad)
                    for start in range(0, len(chosen), settings.batch_size)
                ]
                with hooks.step(max(batch.size for batch in batches)):
                    loss = _optimizer_step(optimizer, parameters, backward, batches, settings.clip, device)
                if not math.isfinite(loss):
                    raise NumberError(f"{hooks.title}: the loss is {loss} {_cause(progress.step, groups, settings)}")
                progress.step, progress.batch = progress.step + 1, number + 1
                hooks.log("loss", progress.step, loss)
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if progress.step % settings.checkpoint_every == 0:
                    keep()
            try:
                held_out = evaluate()
            except NumberError as error:
                cause = _cause(progress.step, groups, settings)
                raise NumberError(f"{hooks.title}: no held-out score {cause} Found: {error}") from error
            if not all(map(math.isfinite, held_out)):
                cause = _cause(progress.step, groups, settings)
                raise NumberError(f"{hooks.title}: the held-out score and loss are {held_out} {cause}")
            _end_epoch(progress, best, held_out, settings, hooks.log)
            keep()
    best.put_back()
    for tensor in parameters.values():
        tensor.grad = None
        tensor.requires_grad_(False)
    return Outcome(
        progress.step, progress.epoch, progress.best_epoch, progress.best_score, progress.best_loss, resumed_at
    )


def _cause(step: int, groups: Sequence[Group], settings: Settings) -> str:
    """When a number became non-finite, the likely cause, and what to do; ends a sentence."""
    if step == 0:
        return (
            "before the first step, so the learning rate is not the cause: the model's own outputs are not finite. Set "
            "its dtype to bfloat16 or float32, and check its weights."
        )
    return (
        f"after {step} steps; lower the learning_rate (now {groups[0].learning_rate:g}) or raise the warmup (now "
        f"{settings.warmup:g})."
    )


def _optimizer_step(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Tensor],
    backward: Backward,
    batches: Sequence[Batch],
    clip: float,
    device: torch.device,
) -> float:
    # Weighted by size, so that each example counts the same even in a smaller last batch.
    total = sum(batch.gold.shape[0] for batch in batches)
    weights = [batch.gold.shape[0] / total for batch in batches]
    losses = [backward(batch.to(device), weight) * weight for batch, weight in zip(batches, weights, strict=True)]
    torch.nn.utils.clip_grad_norm_([tensor for tensor in parameters.values() if tensor.grad is not None], clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(torch.stack(losses).sum())


def _end_epoch(
    progress: Progress,
    best: BestValues,
    held_out: tuple[float, float],
    settings: Settings,
    log: Callable[[str, int, float], None],
) -> None:
    score, loss = held_out
    progress.epoch, progress.batch = progress.epoch + 1, 0
    log("dev_score", progress.step, score)
    log("dev_loss", progress.step, loss)
    if (score, -loss) > (progress.best_score, -progress.best_loss):
        progress.best_score, progress.best_loss, progress.best_epoch = score, loss, progress.epoch
        best.keep()
    waited = progress.epoch - progress.best_epoch
    settled = score >= 1.0 and loss < _SETTLED
    progress.finished = progress.epoch >= settings.epochs or (
        settings.patience > 0 and (settled or waited >= settings.patience)
    )
