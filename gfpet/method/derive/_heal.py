"""Healing: a model cut out of the large one learns its next-token distributions on unlabelled text (distillation).

    loss = mean over tokens of KL(L ‖ S)

S is L with fewer blocks (stage `derive`) or the Bridge (stage `prune`). L runs forward only. Embeddings and head stay
frozen: they are L's own, and in small models they are most of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, linear, log_softmax

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import Batch, EncodedExample, backbone_of, batches, head_of
from gfpet.lm.training import Group, Hooks, Outcome, Settings, checkpointing, train

# Positions per chunk: only one chunk's logits over the whole vocabulary are in memory, for either model.
_CHUNK = 256


def heal(
    small: LoadedModel,
    large: FrozenModel,
    text: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample],
    settings: Settings,
    *,
    pad: int,
    learning_rate: float,
    gradient_checkpointing: bool = False,
    hooks: Hooks,
) -> Outcome:
    """Train the small model in place. The score is the fraction of tokens with the same most likely next token."""
    model, family = small.model, small.family
    backbone, head = backbone_of(model, family), head_of(model)
    fixed = {id(model.get_input_embeddings().weight), id(head)}  # type: ignore[operator]
    trained = {name: weight for name, weight in model.named_parameters() if id(weight) not in fixed}

    def teacher(batch: Batch) -> tuple[Tensor, Tensor]:
        with large.forward_only() as whole:
            states = backbone_of(whole, family)(batch)[batch.is_real["decoder"]]
            return states.clone(), head_of(whole)

    def backward(batch: Batch, weight: float) -> Tensor:
        with torch.no_grad():
            wanted, wanted_head = teacher(batch)
        states = backbone(batch)[batch.is_real["decoder"]]
        # Backpropagate the head in chunks of positions, so that only one chunk's graph is in memory.
        leaf = states.detach().requires_grad_(True)
        loss = torch.zeros((), device=leaf.device)
        for start in range(0, len(leaf), _CHUNK):
            part = slice(start, start + _CHUNK)
            each = _divergence(leaf[part], head, wanted[part], wanted_head) / len(leaf)
            (each * weight).backward()  # type: ignore[no-untyped-call]
            loss += each.detach()
        states.backward(leaf.grad)  # type: ignore[no-untyped-call]
        return loss

    def evaluate() -> tuple[float, float]:
        same, loss, count = 0, 0.0, 0
        with torch.no_grad():
            for _, batch in batches(held_out, size=settings.batch_size, pad=pad):
                batch = batch.to(small.device)
                wanted, wanted_head = teacher(batch)
                states = backbone(batch)[batch.is_real["decoder"]]
                for start in range(0, len(states), _CHUNK):
                    part = slice(start, start + _CHUNK)
                    loss += float(_divergence(states[part], head, wanted[part], wanted_head))
                    same += int((_best(states[part], head) == _best(wanted[part], wanted_head)).sum())
                count += len(states)
        return same / count, loss / count

    with checkpointing(model, gradient_checkpointing):
        return train(
            [Group(trained, learning_rate)],
            backward,
            text,
            evaluate,
            settings,
            seed=0,
            pad=pad,
            device=small.device,
            hooks=hooks,
        )


def _divergence(
    states: Float[Tensor, "tokens d"],
    head: Float[Tensor, "vocabulary d"],
    wanted: Float[Tensor, "tokens d_wanted"],
    wanted_head: Float[Tensor, "vocabulary d_wanted"],
) -> Float[Tensor, ""]:
    """Sum over tokens of KL(L ‖ S)."""
    with torch.no_grad():
        target = log_softmax(linear(wanted, wanted_head).float(), dim=-1)
    return kl_div(log_softmax(linear(states, head).float(), dim=-1), target, reduction="sum", log_target=True)


def _best(states: Float[Tensor, "tokens d"], head: Float[Tensor, "vocabulary d"]) -> Tensor:
    return linear(states, head).argmax(-1)
