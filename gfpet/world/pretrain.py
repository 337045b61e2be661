"""Pretraining of the embedded GPT-2 checkpoints on the world's text, from scratch, in plain PyTorch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gfpet.world.facts import World
from gfpet.world.prose import corpus
from gfpet.world.tokenizer import build_tokenizer

POSITIONS = 256
DOCUMENTS_AT_ONCE = 256


@dataclass(frozen=True)
class Shape:
    """Width, depth and number of heads of a GPT-2."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is trained: AdamW, linear warm-up, cosine down to a tenth of the rate."""

    steps: int
    batch: int
    length: int = 128
    rate: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Point:
    """One point of the training curve: mean loss (nats a token) and speed since the point before."""

    step: int
    loss: float
    tokens_per_second: float


SHAPES: dict[str, Shape] = {"small": Shape(width=64, layers=3, heads=2), "large": Shape(width=128, layers=5, heads=4)}
"""The two committed models. A head is 32 wide in both."""

RECIPES: dict[str, Recipe] = {"small": Recipe(4000, 8, rate=4e-3), "large": Recipe(6000, 8, rate=4e-3)}
"""The recipes of the two committed models."""


def packed(
    tokenizer: PreTrainedTokenizerFast, batch: int, length: int, seed: int, facts: World | None = None
) -> Iterator[Int[Tensor, "batch length"]]:
    """Endless batches `[batch, length]` of token ids: documents one after the other, an end of text between them."""
    documents = corpus(seed, facts)
    buffer: list[int] = []
    while True:
        while len(buffer) < batch * length:
            texts = [next(documents) for _ in range(DOCUMENTS_AT_ONCE)]
            for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
                buffer += [*ids, tokenizer.eos_token_id]
        yield torch.tensor(buffer[: batch * length]).view(batch, length)
        del buffer[: batch * length]


def build_model(shape: Shape, tokenizer: PreTrainedTokenizerFast, seed: int) -> GPT2LMHeadModel:
    """A GPT-2 without dropout, its weights drawn from `seed`."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to a tenth."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def train(
    model: GPT2LMHeadModel,
    batches: Iterator[Int[Tensor, "batch length"]],
    recipe: Recipe,
    report: Callable[[Point], None] | None = None,
    every: int = 50,
) -> list[Point]:
    """Train `model` in place; the curve, one point every `every` steps, each also handed to `report` at once."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
    curve: list[Point] = []
    total, since = 0.0, time.perf_counter()
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, recipe)
        ids = next(batches)
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        total += loss.item()
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            steps = (step % every) + 1
            now = time.perf_counter()
            curve.append(Point(step + 1, total / steps, steps * ids.numel() / (now - since)))
            total, since = 0.0, now
            if report is not None:
                report(curve[-1])
    model.train(False)
    return curve


def pretrain(
    size: str,
    folder: Path,
    shape: Shape | None = None,
    recipe: Recipe | None = None,
    facts: World | None = None,
    report: Callable[[Point], None] | None = None,
    every: int = 50,
) -> list[Point]:
    """Train the model of a size (a key of `SHAPES`), write model and tokenizer into `folder`, and give the curve.

    `shape` and `recipe` replace the committed ones. The weights depend on seeds, thread count and CPU only.
    """
    recipe = recipe or RECIPES[size]
    tokenizer = build_tokenizer(facts)
    model = build_model(shape or SHAPES[size], tokenizer, recipe.seed)
    curve = train(model, packed(tokenizer, recipe.batch, recipe.length, recipe.seed, facts), recipe, report, every)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
    return curve
