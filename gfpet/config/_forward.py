"""Sections of the stages that only run forward, and of the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gfpet.config._section import Chosen, Distinct, Positive, PositiveFloat, Section, one_of
from gfpet.config._training import Heal
from gfpet.method.registry import AUTO, STRATEGIES

Strategy = Annotated[str, one_of(lambda: STRATEGIES)]
"""A strategy: how the large model uses what was learned outside of it (`gfpet.method.registry`)."""
StrategyOrAuto = Annotated[str, one_of(lambda: (*STRATEGIES, AUTO))]


class Align(Section):
    """Stage `align`: fits closed-form maps between the activations of the two models, from forward passes only."""

    method: Literal["ridge", "procrustes", "identity"] = "ridge"
    """`identity` fits nothing; it needs a small model as wide as the large one, such as a derived one."""
    ridge: PositiveFloat = 1e-2
    """Ridge penalty, as a fraction of the mean variance of the inputs."""
    centre: bool = True
    examples: Positive = 256
    """Training examples, over all tasks, whose text both models read."""
    batch_size: Positive = 16
    """Texts read at a time."""
    budget_gb: PositiveFloat = 1.0
    """Memory for sums and maps, in units of 10^9 bytes. If all layers exceed it, the text is read several times."""
    layer_assignment: Literal["stack", "interpolate", "depth", "cka", "derived"] = "interpolate"
    """Layer assignment: which layer of the small model gives each layer of the large one its module (docs/method.md).
    `derived`: each layer of a derived small model goes back to the layer it was cut from; other layers get no module.
    """


class Prune(Section):
    """Stage `prune`: cuts the Bridge out of the large model."""

    importance: Literal["activation", "magnitude", "fisher"] = "activation"
    reduction: Literal["parameters", "width"] = "parameters"
    """What `factor` divides: the parameter count (each width is then divided by its square root), or every width."""
    factor: PositiveFloat = 4.0
    """Reduction factor r."""
    examples: Positive = 128
    """Training examples on which importance is measured."""
    batch_size: Positive = 16
    """Examples read at a time; `fisher` always takes one."""
    heal: Heal = Heal()
    """Distils L into the Bridge on text without labels, before any task; off by default."""


class Plug(Section):
    """`W_plug`: how a module of the small model is mapped to the large one."""

    initialisation: Literal["closed_form", "random"] = "closed_form"
    """Initial `W_plug`: the maps of stage `align`, or random orthogonal maps."""
    sharing: Literal["per_layer", "shared"] = "per_layer"
    """One map for each layer, or one for all layers of a target module."""
    update: Literal["auto", "full", "low_rank", "none"] = "auto"
    """What stage `bridge` trains of `W_plug`: the maps, low-rank updates of them, or nothing. `auto`: the maps if they
    have at most 10M values, else low-rank updates (AdamW holds 16 bytes per trained value)."""
    update_rank: Positive = 16
    """Rank of `low_rank` updates."""
    divide_by_copies: bool = True
    """If one layer's module goes to k layers, divide each copy's update by k."""


class BlockwiseScaling(Section):
    """How strategy `blockwise_scaling` finds its factors: SPSA, two forward passes per step."""

    steps: Positive = 60
    batch_size: Positive = 32
    """Training examples per step."""
    learning_rate: PositiveFloat = 0.1
    epsilon: PositiveFloat = 0.1
    """Distance between the factors and each of the two points that a step compares."""


class Evaluate(Section):
    """Stage `evaluate`: scores the large model with each strategy, forward only."""

    batch_size: Positive = 64
    controls: Distinct[Literal["zero_shot", "random_w_plug"]] = ("zero_shot", "random_w_plug")
    strategies: Distinct[StrategyOrAuto] = (
        "algorithm1",
        "scaling",
        "proxy_tuning",
        "readout",
        "auto",
    )
    """Strategies to evaluate (docs/design.md)."""
    auto: Chosen[Strategy] = ("readout",)
    """Candidates of `auto`, besides the unchanged large model; it selects the best on held-out training examples."""
    scales: Chosen[PositiveFloat] = (0.25, 0.5, 2.0, 4.0)
    """Factors tried besides 1: by `scaling` on a plugged module, by `proxy_tuning` on the small model's change."""
    blockwise_scaling: BlockwiseScaling = BlockwiseScaling()

    @model_validator(mode="after")
    def _auto_chooses_among_what_is_there(self) -> Evaluate:
        lacking = [name for name in self.auto if name not in self.strategies]
        if AUTO in self.strategies and lacking:
            raise ValueError(
                f"auto names {', '.join(lacking)}, which strategies {list(self.strategies)} lacks: "
                "add it there, or take it out of auto"
            )
        return self


class Similarity(Section):
    """Stage `similarity`: compares the modules of the small and the large model."""

    examples: Positive = 64
    """Training examples on which the modules' effects are compared; evaluation examples are not used."""
    null_samples: Positive = 5
    """Number of random maps and of untrained modules for the null controls."""


class Report(Section):
    """Stage `report`: bootstrap intervals over the evaluated examples."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    resamples: Positive = 1000
    """Bootstrap resamples behind each interval."""
