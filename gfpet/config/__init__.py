"""`params.yaml` as one typed model. `gfpet.params_file` reads and writes the file.

The shipped `params.yaml` equals the defaults below (a test holds it). Presets (`presets/*.yaml`) hold only differences.
Stage programs take a section and hand plain arguments to the library; of that, only `gfpet.predict`, which stands in
for the stage programs, sees these classes.
"""

from __future__ import annotations

from pydantic import model_validator

from gfpet.config._data import Prepare, World
from gfpet.config._forward import Align, Evaluate, Plug, Prune, Similarity
from gfpet.config._models import DERIVE, Checkpoint, LargeCheckpoint, Models, Pair
from gfpet.config._modules import Modules
from gfpet.config._section import Chosen, Distinct, FamilyName, Kind, NonNegative, Section, Site, Task
from gfpet.config._training import Bridge, Derive, Heal, Loop, Optimisation, Reference, Tune, Write


class Params(Section):
    """All of `params.yaml`."""

    preset: str = "quick"
    """Name of the preset that was applied last; for the record only."""
    families: Chosen[FamilyName] = ("gpt2",)
    tasks: Chosen[Task] = ("boolq", "cb", "copa")
    kinds: Distinct[Kind] = ("lora", "adapter", "prefix")
    """What is carried over from S. Empty: nothing; L is adapted by the direct write alone."""
    seeds: Chosen[NonNegative] = (0,)
    world: World = World()
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
    write: Write = Write()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _something_to_do(self) -> Params:
        if not self.kinds and "write" not in self.evaluate.strategies:
            raise ValueError(
                f"kinds is empty, and evaluate.strategies {list(self.evaluate.strategies)} has no 'write', the one "
                "strategy that needs none: name a kind, or add 'write'"
            )
        if not self.kinds and "auto" in self.evaluate.strategies and "write" not in self.evaluate.auto:
            raise ValueError(
                f"kinds is empty, and evaluate.auto {list(self.evaluate.auto)} has no 'write', the one strategy that "
                "needs none: name a kind, or add 'write'"
            )
        return self


__all__ = [
    "DERIVE",
    "Checkpoint",
    "Heal",
    "LargeCheckpoint",
    "Loop",
    "Optimisation",
    "Pair",
    "Params",
    "Prepare",
    "Site",
]
