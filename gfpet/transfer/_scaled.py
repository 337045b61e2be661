"""The strategy `scaled`: one factor on the plugged module's effect, chosen on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gfpet.modules import KindName
from gfpet.transfer._contender import Contender, Scorer, Trial, best, contender


def scaled(
    kind: KindName, scorer: Callable[[float], Scorer], scales: Sequence[float], trial: Trial
) -> Contender | None:
    """The plugged module at its best scale; None for a prefix, whose effect has no factor.

    Args:
        scorer: the large model with the module at a scale.
    """
    if kind == "prefix":
        return None
    return best([contender("scaled", scorer(scale), trial, scale=scale) for scale in scales])
