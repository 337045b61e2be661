"""All of `params.yaml` as one typed model."""

from __future__ import annotations

from pydantic import model_validator

from gfpet.config._data import Prepare, Synthetic
from gfpet.config._forward import Align, Evaluate, Plug, Prune, Report, Similarity
from gfpet.config._models import Models
from gfpet.config._modules import Modules
from gfpet.config._section import Chosen, Distinct, FamilyName, Kind, NonNegative, Section, Task
from gfpet.config._training import Bridge, Derive, Readout, Reference, Tune


class Params(Section):
    """All of `params.yaml`."""

    preset: str = "quick"
    """Name of the preset that was applied last; for the record only."""
    families: Chosen[FamilyName] = ("gpt2",)
    tasks: Chosen[Task] = ("boolq", "cb", "copa")
    kinds: Distinct[Kind] = ("lora", "adapter", "prefix")
    """What is carried over from S. Empty: nothing; L is adapted by the direct write alone."""
    seeds: Chosen[NonNegative] = (0,)
    synthetic: Synthetic = Synthetic()
    prepare: Prepare = Prepare()
    models: Models = Models()
    modules: Modules = Modules()
    derive: Derive = Derive()
    tune: Tune = Tune()
    reference: Reference = Reference()
    align: Align = Align()
    similarity: Similarity = Similarity()
    prune: Prune = Prune()
    plug: Plug = Plug()
    bridge: Bridge = Bridge()
    readout: Readout = Readout()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _something_to_do(self) -> Params:
        if not self.kinds and "readout" not in self.evaluate.strategies:
            raise ValueError(
                f"kinds is empty, and evaluate.strategies {list(self.evaluate.strategies)} has no 'readout', the one "
                "strategy that needs none: name a kind, or add 'readout'"
            )
        if not self.kinds and "auto" in self.evaluate.strategies and "readout" not in self.evaluate.auto:
            raise ValueError(
                f"kinds is empty, and evaluate.auto {list(self.evaluate.auto)} has no 'readout', the one strategy that "
                "needs none: name a kind, or add 'readout'"
            )
        return self
