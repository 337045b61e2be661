"""The transfer strategies: one entry each. Imports nothing heavy.

A strategy makes the large model use what was learned outside of it. To add one, write a file in
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
"""The strategy that chooses among the others on held-out examples (`gfpet.method.strategies.choose_among`)."""
PAPER = "algorithm1"
"""The paper's own strategy. Tables show it by the method's name alone."""


@dataclass(frozen=True)
class Strategy:
    """One transfer strategy."""

    name: str
    """The name in `evaluate.strategies` of params.yaml and in the column `strategy` of result rows."""
    title: str
    """The name in tables and plots."""
    builder: str
    """`<module>:<function>`. The function takes a `StrategyContext` and returns a `StrategyResult`, or None if the
    strategy does not apply."""
    route: tuple[str, ...]
    """The stages that a result needs (`gfpet.pipeline.STAGES`); its cost is the sum of their costs."""
    phases: tuple[Phase, ...]
    """Its phases of stage `evaluate` on the evaluation examples. The same phases on selection examples count, too."""
    colour: str
    """Colour in plots, of Okabe and Ito's palette or near it."""
    uses_module: bool = True
    """Whether it needs a module of S. If not, it has one result for all kinds."""
    scales_effect: bool = False
    """Whether it multiplies the module's effect by a factor; only scalable kinds allow this."""
    uses_small: bool = False
    """Whether it needs the small model's scores."""

    def applies_to(self, kind: str) -> bool:
        """Whether the strategy applies to a kind of module; an empty kind means no module."""
        if not self.uses_module:
            return True
        return bool(kind) and (not self.scales_effect or KINDS[kind].scalable)

    def tag_kind(self, kind: str) -> str:
        """The kind's name in phases and file names; the strategy's own name if it uses no module."""
        return kind if self.uses_module else self.name

    def load(self) -> Callable[[Any], Any]:
        """Import and return the builder."""
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
"""By name, in build order; `auto` takes the first of equal results."""


def without_module() -> tuple[str, ...]:
    """Names of the strategies that need no module of S."""
    return tuple(strategy.name for strategy in STRATEGIES.values() if not strategy.uses_module)


def title_of(name: str) -> str:
    """A strategy's title; its name if it is not registered."""
    return STRATEGIES[name].title if name in STRATEGIES else name
