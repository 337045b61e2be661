"""Sections of the stages that only run forward, and of the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gfpet.config._section import Chosen, Distinct, Positive, PositiveFloat, Section, one_of
from gfpet.config._training import Heal
from gfpet.method.registry import AUTO, STRATEGIES

Strategy = Annotated[str, one_of(lambda: STRATEGIES)]
"""A way of using in the large model what was learned outside of it (`gfpet.method.registry`)."""
StrategyOrAuto = Annotated[str, one_of(lambda: (*STRATEGIES, AUTO))]


class Align(Section):
    """Stage `align`: closed-form maps between the activations of the two models, from forward passes only."""

    method: Literal["ridge", "procrustes", "identity"] = "ridge"
    """`identity` fits nothing: for a small model as wide as the large one, as a derived one is."""
    ridge: PositiveFloat = 1e-2
    """Ridge penalty, as a part of the mean variance of the inputs."""
    centre: bool = True
    examples: Positive = 256
    """Training examples (over all tasks) whose text both models read."""
    batch_size: Positive = 16
    """Texts read at a time."""
    budget_gb: PositiveFloat = 1.0
    """Memory for sums and maps, in units of 10^9 bytes: where all layers' are more, the text is read several times."""
    layer_assignment: Literal["stack", "interpolate", "depth", "cka", "derived"] = "interpolate"
    """Which layer of the small model each layer of the large one takes its module from (docs/method.md). `derived`:
    each layer of a derived small model goes back to the layer it was cut from; the other layers get no module."""


class Prune(Section):
    """Stage `prune`: the Bridge cut out of the large model."""

    importance: Literal["activation", "magnitude", "fisher"] = "activation"
    reduction: Literal["parameters", "width"] = "parameters"
    """What `factor` divides: the parameter count (width by its root), or every width."""
    factor: PositiveFloat = 4.0
    """Reduction factor r."""
    examples: Positive = 128
    """Training examples that importance is measured on."""
    batch_size: Positive = 16
    """Examples read at a time; `fisher` takes one by definition."""
    heal: Heal = Heal()
    """A distilled Bridge: before any task it learns what L says on text without labels; by default it does not."""


class Plug(Section):
    """`W_plug`: how a module of the small model is carried to the large one."""

    initialisation: Literal["closed_form", "random"] = "closed_form"
    """Start of `W_plug`: the maps of stage `align`, or random orthogonal ones."""
    sharing: Literal["per_layer", "shared"] = "per_layer"
    """A map for each layer, or one for all layers of a target."""
    update: Literal["auto", "full", "low_rank", "none"] = "auto"
    """What of `W_plug` stage `bridge` trains: the maps, low-rank updates of them, or nothing. `auto`: the maps where
    they have at most 10M values, low-rank updates beyond (AdamW holds 16 bytes a trained value)."""
    update_rank: Positive = 16
    """Rank of `low_rank` updates."""
    divide_by_copies: bool = True
    """k copies of one layer's update are each divided by k."""


class BlockwiseScaling(Section):
    """How strategy `blockwise_scaling` finds its factors: two forward passes a step."""

    steps: Positive = 60
    batch_size: Positive = 32
    """Training examples of a step."""
    learning_rate: PositiveFloat = 0.1
    epsilon: PositiveFloat = 0.1
    """Distance from the factors of the two points that a step compares."""


class Evaluate(Section):
    """Stage `evaluate`: the large model with what was learned for it, forward only."""

    batch_size: Positive = 64
    controls: Distinct[Literal["zero_shot", "random_w_plug"]] = ("zero_shot", "random_w_plug")
    strategies: Distinct[StrategyOrAuto] = (
        "algorithm1",
        "scaling",
        "proxy_tuning",
        "readout",
        "auto",
    )
    """Ways of using what was learned (docs/design.md)."""
    auto: Chosen[Strategy] = ("readout",)
    """The strategies that `auto` chooses among, beside the large model as it is; the best on held-out training examples
    wins."""
    scales: Chosen[PositiveFloat] = (0.25, 0.5, 2.0, 4.0)
    """Factors tried beside 1: by `scaling` on a plugged module, by `proxy_tuning` on the small model's change."""
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
    """Stage `similarity`: modules of the small and of the large model side by side."""

    examples: Positive = 64
    """Evaluation-free text (training examples) that the modules' effects are compared on."""
    null_samples: Positive = 5
    """Random maps and untrained modules drawn for the null controls."""


class Report(Section):
    """Stage `report`: bootstrap intervals over the evaluated examples."""

    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    resamples: Positive = 1000
    """Bootstrap resamples behind each interval."""
