"""The strategy `proxy_tuning`: scores of candidates are L + β (tuned S − S).

Proxy-tuning (Liu et al. 2024, arXiv:2401.08565) applies this to each token's logits. β is chosen on held-out examples.
Inference needs the small model as well as the large one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gfpet.lm.scoring import Predictions, Split
from gfpet.method.strategies._context import StrategyContext
from gfpet.method.strategies._result import DevSelection, Scorer, StrategyResult, select_best, strategy_result
from gfpet.method.strategies.scaling import with_one


def build(context: StrategyContext) -> StrategyResult | None:
    """Proxy-tuning at the best β of `evaluate.scales` and 1; None without the small model's scores."""
    if context.small is None:
        return None
    strengths = with_one(context.options["scales"])
    return tune_by_proxy(context.zero_shot, context.small.tuned, context.small.plain, strengths, context.selection)


def tune_by_proxy(
    large: Scorer, tuned: Scorer, small: Scorer, strengths: Sequence[float], selection: DevSelection
) -> StrategyResult:
    """Proxy-tuning at the best strength β on the held-out examples."""

    def score_at(strength: float) -> Scorer:
        def score(split: Split) -> Predictions:
            return _sum(split, large(split), tuned(split), small(split), strength)

        return score

    return select_best([strategy_result("proxy_tuning", score_at(beta), selection, beta=beta) for beta in strengths])


def _sum(split: Split, large: Predictions, tuned: Predictions, small: Predictions, beta: float) -> Predictions:
    scores, choices, losses = [], [], []
    for example, of_large, of_tuned, of_small in zip(
        split.encoded, large.scores, tuned.scores, small.scores, strict=True
    ):
        total = torch.tensor(of_large) + beta * (torch.tensor(of_tuned) - torch.tensor(of_small))
        scores.append(total.tolist())
        choices.append(int(total.argmax()))
        losses.append(float(total.logsumexp(-1) - total[list(example.gold)].logsumexp(-1)))
    return Predictions(choices, scores, sum(losses) / len(losses))
