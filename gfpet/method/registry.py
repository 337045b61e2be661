"""The transfer strategies: one entry for each. Imports nothing heavy.

A strategy is a way of using, in the large model, what was learned outside of it. To add one, write a file in
`gfpet/method/strategies/` with a builder `build(context: StrategyContext) -> StrategyResult | None`, and add an entry
here. Configuration, stage `evaluate`, costs, tables and plots all read this registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gfpet.lm.registry import KINDS
from gfpet.pipeline import OF_RESULT, ZERO_SHOT, Phase

AUTO = "auto"
"""The strategy that chooses among the others by held-out examples (`gfpet.method.strategies.choose_among`)."""
PAPER = "algorithm1"
"""The paper's own strategy, which tables do not name beside the method."""


@dataclass(frozen=True)
class Strategy:
    """One transfer strategy."""

    name: str
    """As `evaluate.strategies` of params.yaml and the column `strategy` of result rows have it."""
    title: str
    """As tables and plots have it."""
    builder: str
    """`<module>:<function>`; the function takes a `StrategyContext` and returns a `StrategyResult`, or None where the
    strategy does not apply."""
    route: tuple[str, ...]
    """The stages that a result goes through (`gfpet.pipeline.STAGES`); its cost is that of all of them."""
    phases: tuple[Phase, ...]
    """Its phases of stage `evaluate` on the evaluation examples; the same on examples to choose by count, too."""
    colour: str
    """In plots: of Okabe and Ito's palette, or near it."""
    uses_module: bool = True
    """Whether it needs a module of S. If not, it has one result for all kinds."""
    scales_effect: bool = False
    """Whether it multiplies the module's effect by a factor, which not every kind allows."""
    uses_small: bool = False
    """Whether it needs the small model's scores."""

    def applies_to(self, kind: str) -> bool:
        """Whether there is such a result for a kind of module; an empty kind stands for no module at all."""
        if not self.uses_module:
            return True
        return bool(kind) and (not self.scales_effect or KINDS[kind].scalable)

    def tag_kind(self, kind: str) -> str:
        """What its phases and files have in the place of the kind: its own name if it uses no module."""
        return kind if self.uses_module else self.name

    def load(self) -> Callable[[Any], Any]:
        """Its builder; imports it."""
        module, _, function = self.builder.partition(":")
        found: Callable[[Any], Any] = getattr(import_module(module), function)
        return found


_STRATEGIES = "gfpet.method.strategies"
_PLUGGED = ("derive", "tune", "align", "prune", "bridge", "evaluate")
_AS_PLUGGED = Phase("infer", tag=OF_RESULT)

STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy(
            PAPER, "Algorithm 1", f"{_STRATEGIES}.algorithm1:build", _PLUGGED, phases=(_AS_PLUGGED,), colour="#0072B2"
        ),
        Strategy(
            "scaling",
            "scaling",
            f"{_STRATEGIES}.scaling:build",
            _PLUGGED,
            phases=(_AS_PLUGGED, Phase("infer", "scaling", OF_RESULT)),
            colour="#332288",
            scales_effect=True,
        ),
        Strategy(
            "blockwise_scaling",
            "blockwise scaling",
            f"{_STRATEGIES}.blockwise_scaling:build",
            _PLUGGED,
            phases=(Phase("infer", "blockwise_scaling", OF_RESULT),),
            colour="#88CCEE",
            scales_effect=True,
        ),
        Strategy(
            "proxy_tuning",
            "proxy-tuning",
            f"{_STRATEGIES}.proxy_tuning:build",
            ("derive", "tune", "evaluate"),
            phases=(
                Phase("infer", tag=ZERO_SHOT),
                Phase("infer", "small", ZERO_SHOT),
                Phase("infer", "small", OF_RESULT),
            ),
            colour="#F0E442",
            uses_small=True,
        ),
        Strategy(
            "readout",
            "readout",
            f"{_STRATEGIES}.readout:build",
            ("readout", "evaluate"),
            phases=(_AS_PLUGGED,),
            colour="#009E73",
            uses_module=False,
        ),
    )
}
"""By name, in the order in which they are built; of equal results `auto` takes the first."""


def without_module() -> tuple[str, ...]:
    """Names of the strategies that need no module of S."""
    return tuple(strategy.name for strategy in STRATEGIES.values() if not strategy.uses_module)


def title_of(name: str) -> str:
    """A strategy's title; its name if it is not registered."""
    return STRATEGIES[name].title if name in STRATEGIES else name
