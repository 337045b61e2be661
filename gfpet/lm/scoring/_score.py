"""The one scoring loop, for training and evaluation: candidates by mean log-likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from gfpet.errors import NumberError
from gfpet.lm.families import Family
from gfpet.lm.finite import is_finite, likely_cause
from gfpet.lm.scoring._encode import Batch, EncodedExample, batches
from gfpet.memory import Step, no_step

# Positions whose logits over the whole vocabulary are in memory at once.
_CHUNK = 256

Backbone = Callable[[Batch], Float[Tensor, "rows length d"]]
"""From a batch to the last hidden states, after the final norm."""


def backbone_of(model: nn.Module, family: Family) -> Backbone:
    """The model's own forward pass, without its head."""

    def hidden(batch: Batch) -> Float[Tensor, "rows length d"]:
        return family.run(model, batch.texts)

    return hidden


def head_of(model: nn.Module) -> Tensor:
    """The output embedding `[vocabulary, d]`."""
    weight: Tensor = model.get_output_embeddings().weight  # type: ignore[operator]
    return weight


def candidate_scores(
    hidden: Float[Tensor, "rows length d"], head: Float[Tensor, "vocabulary d"], batch: Batch
) -> Float[Tensor, "examples width"]:
    """The score of each candidate; minus infinity for padding.

    If all candidates of an example are single tokens at one position, the score is the logit: they share the
    normaliser, so no logits over the vocabulary are computed. Otherwise the score is the mean log-likelihood of the
    candidate's tokens. Logits over the vocabulary are then computed only at the positions read, in chunks.
    """
    read = hidden[batch.read_row, batch.read_position]
    # GPT-2's logits are around -100, where bfloat16 has steps of 0.5: candidates would tie.
    picked = (read[batch.target_read].float() * head[batch.target_token].float()).sum(-1)
    if not batch.one_position:
        parts = torch.split(read, _CHUNK)
        normaliser = torch.cat([linear(part, head).float().logsumexp(-1) for part in parts])
        picked = picked - normaliser[batch.target_read]
    total = picked.new_zeros(batch.exists.numel()).index_add(0, batch.target_candidate, picked)
    count = torch.bincount(batch.target_candidate, minlength=batch.exists.numel()).clamp(min=1)
    scores = (total / count).view(batch.exists.shape)
    return scores.masked_fill(~batch.exists, -torch.inf)


def ranking_loss(scores: Float[Tensor, "examples width"], batch: Batch) -> Float[Tensor, ""]:
    """Mean over examples of -log p, where p is the right candidates' share of the softmax over candidates."""
    right = scores.masked_fill(~batch.gold, -torch.inf).logsumexp(-1)
    return (scores.logsumexp(-1) - right).mean()


def backward_loss(
    backbone: Backbone, head: Float[Tensor, "vocabulary d"], batch: Batch, weight: float
) -> Float[Tensor, ""]:
    """Forward and backward pass of `weight * loss`; returns the ranking loss, detached."""
    loss = ranking_loss(candidate_scores(backbone(batch), head, batch), batch)
    (loss * weight).backward()  # type: ignore[no-untyped-call]
    return loss.detach()


@dataclass(frozen=True)
class Predictions:
    """A model's predictions for a set of examples, in their order."""

    choices: list[int]
    """Index of each example's best candidate; the first one on a tie."""
    scores: list[list[float]]
    """Score of every candidate."""
    loss: float
    """Mean ranking loss."""


def predict(
    encoded: Sequence[EncodedExample],
    backbone: Backbone,
    head: Float[Tensor, "vocabulary d"],
    *,
    batch_size: int,
    pad: int,
    step: Step = no_step,
) -> Predictions:
    """Score all candidates of all examples, forward only.

    Raises:
        NumberError: scores of some examples are not finite; says how many, which is the first, and in which data type.
    """
    choices, scores, total = [0] * len(encoded), [[0.0]] * len(encoded), 0.0
    broken: list[int] = []
    with torch.inference_mode():
        for indices, batch in batches(encoded, size=batch_size, pad=pad):
            with step(batch.size):
                batch = batch.to(head.device)
                result = candidate_scores(backbone(batch), head, batch).float()
                total += float(ranking_loss(result, batch)) * len(indices)
            for index, line in zip(indices, result.cpu(), strict=True):
                own = line[: encoded[index].candidates]
                scores[index], choices[index] = own.tolist(), int(line.argmax())
                if not is_finite(own):
                    broken.append(index)
    if broken:
        raise NumberError(
            f"{len(broken)} of {len(encoded)} examples have scores that are not finite, the first is number "
            f"{min(broken)}, counted from 0; the model's output embedding is {str(head.dtype).removeprefix('torch.')}. "
            f"{likely_cause(head.dtype)}"
        )
    return Predictions(choices, scores, total / len(encoded))
