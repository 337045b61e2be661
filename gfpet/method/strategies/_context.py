"""The inputs of a strategy's builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Split
from gfpet.method.strategies._evaluator import FrozenEvaluator
from gfpet.method.strategies._result import DevSelection, Scorer
from gfpet.pipeline import tag_of


@dataclass(frozen=True)
class PluggedModule:
    """S's module in the large model's spaces."""

    module: PetModule
    score: Scorer
    """The large model with the module; all strategies share its predictions."""


@dataclass(frozen=True)
class SmallScorers:
    """The small model's predictions."""

    plain: Scorer
    """Without a module."""
    tuned: Scorer
    """With its own module."""


@dataclass(frozen=True)
class StrategyContext:
    """All that a strategy's builder may use. The large model only runs forward."""

    large: FrozenEvaluator
    zero_shot: Scorer
    """The plain large model; all strategies share its predictions."""
    train: Split
    """Examples to train on."""
    selection: DevSelection
    """Held-out examples for all choices."""
    seed: int
    options: Mapping[str, Any]
    """Section `evaluate` of params.yaml."""
    outputs: Callable[[str], Path]
    """The output folder of a stage for this family and task."""
    kind: str = ""
    """Kind of the module; empty for a strategy without one."""
    plugged: PluggedModule | None = None
    """None for a strategy without a module."""
    small: SmallScorers | None = None
    """None unless the strategy's registry entry asks for it (`uses_small`)."""

    @property
    def tag(self) -> str:
        """The tag of its phases, and the name of its files: `lora-seed0`."""
        return tag_of(self.kind, self.seed)
