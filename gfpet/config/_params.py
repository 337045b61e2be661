"""All of `params.yaml` as one typed model."""

from __future__ import annotations

from pydantic import model_validator

from gfpet.config._data import Prepare, Synthetic
from gfpet.config._forward import Align, Evaluate, Plug, Prune, Report, Similarity
from gfpet.config._models import Models
from gfpet.config._modules import Modules
from gfpet.config._section import Chosen, Distinct, FamilyName, Kind, NonNegative, Section, Task
from gfpet.config._training import Bridge, Derive, Readout, Reference, Tune
from gfpet.lm.registry import DEFAULT_KINDS, FAMILY_NAMES, KINDS
from gfpet.method.registry import AUTO, without_module


class Params(Section):
    """All of `params.yaml`."""

    preset: str = "quick"
    """Name of the last applied preset; for information only."""
    families: Chosen[FamilyName] = FAMILY_NAMES[:1]
    tasks: Chosen[Task] = ("boolq", "cb", "copa")
    kinds: Distinct[Kind] = DEFAULT_KINDS
    """Kinds of module to transfer from S. If empty, only strategies without a module (`readout`) adapt L."""
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
        names = without_module()
        lists = {"strategies": self.evaluate.strategies}
        if AUTO in self.evaluate.strategies:
            lists["auto"] = self.evaluate.auto
        for key, value in lists.items():
            if not self.kinds and not set(names) & set(value):
                quoted = " or ".join(f"'{name}'" for name in names)
                raise ValueError(
                    f"kinds is empty, and evaluate.{key} {list(value)} has no {quoted}, which needs no module of S: "
                    f"name a kind, or add {quoted}"
                )
        return self


def positions_before(params: Params) -> tuple[str, int]:
    """The most positions that a module of `kinds` puts before the text, after the key that sets them.

    An empty key and 0 if no kind takes any.
    """
    taken = {"": 0}
    for name in params.kinds:
        if option := KINDS[name].positions:
            taken[f"modules.{name}.{option}"] = getattr(getattr(params.modules, name), option)
    key = max(taken, key=lambda each: taken[each])
    return key, taken[key]
