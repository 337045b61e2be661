"""The stages of the pipeline and the phases that they measure: one list, one type. Imports nothing heavy.

`STAGES` lists the stages of dvc.yaml in an order in which they can run; every other list of stages is derived from it.
To add a stage, write its program `gfpet/stages/<stage>.py`, its entry in dvc.yaml, its section of params.yaml
(`gfpet.config`), and one line in `STAGES`.

A *phase* is a part of a stage whose time and memory are measured. Its name is its key below `memory` in
`metrics/<stage>/<instance>.json`; only `Phase` writes and reads such names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml."""

    name: str
    matrix: Literal["none", "family", "task"]
    """What it has an instance for: the whole run, each family, or each family and task."""
    title: str = ""
    """What it does, for plots. Empty if it is no part of the cost of a result."""
    has_rows: bool = False
    """Whether it writes result rows."""

    @property
    def is_cost(self) -> bool:
        """Whether its time and memory are part of the cost of a result."""
        return bool(self.title)


STAGES = (
    Stage("pretrain", "family"),
    Stage("prepare", "none"),
    Stage("derive", "family", title="derive S from L"),
    Stage("tune", "task", title="tune S", has_rows=True),
    Stage("align", "family", title="align S and L"),
    Stage("prune", "family", title="prune L to the Bridge"),
    Stage("bridge", "task", title="train the Bridge", has_rows=True),
    Stage("readout", "task", title="train the readout"),
    Stage("evaluate", "task", title="infer with plugged L", has_rows=True),
    Stage("reference", "task", title="tune L by gradients", has_rows=True),
    Stage("similarity", "family"),
    Stage("report", "none"),
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)
COST_STAGES = tuple(stage.name for stage in STAGES if stage.is_cost)
"""Stages that a result may go through, in the order of the tables."""
FAMILY_STAGES = tuple(stage.name for stage in STAGES if stage.is_cost and stage.matrix == "family")
"""Those of them that all tasks of a family share."""
TASK_STAGES = tuple(stage.name for stage in STAGES if stage.is_cost and stage.matrix == "task")
"""Those of them that run for each family and task."""
RESULT_STAGES = tuple(stage.name for stage in STAGES if stage.has_rows)
"""Stages with result rows; they run for each family and task."""
TITLES = {stage.name: stage.title for stage in STAGES if stage.is_cost}


@dataclass(frozen=True)
class EstimatedPeak:
    """One of the peaks that `gfpet.estimate` takes; a stage with two separate peaks has two."""

    name: str
    stage: str
    """The stage whose functions are run."""
    sharing: Literal["all", "kind", "other"]
    """Who goes through it: ours with all kinds of module alike, ours with each kind, or other methods alone."""


ESTIMATED_PEAKS = (
    EstimatedPeak("derive", "derive", "all"),
    EstimatedPeak("tune L", "reference", "other"),
    EstimatedPeak("tune S", "tune", "kind"),
    EstimatedPeak("align", "align", "all"),
    EstimatedPeak("prune", "prune", "all"),
    EstimatedPeak("cache", "bridge", "all"),
    EstimatedPeak("bridge", "bridge", "kind"),
    EstimatedPeak("readout", "readout", "all"),
    EstimatedPeak("infer", "evaluate", "kind"),
)
PEAK_NAMES = tuple(peak.name for peak in ESTIMATED_PEAKS)
"""Names of the estimated peaks, in the order of the pipeline."""


OF_RESULT = "{kind}-seed{seed}"
"""The tag of a phase that belongs to one result, to be filled in (`Phase.filled`)."""
ZERO_SHOT = "zero-shot"
"""The tag of a phase with the model as it is."""


def tag_of(kind: str, seed: int) -> str:
    """What belongs to one kind and seed, in names of files and of phases: `lora-seed0`; `seed0` without a kind."""
    return f"{kind}-seed{seed}" if kind else f"seed{seed}"


@dataclass(frozen=True)
class Phase:
    """A measured part of a stage: `<action>[-<variant>][/<tag>]`.

    >>> str(Phase("infer", "scaling", "lora-seed0"))
    'infer-scaling/lora-seed0'
    >>> Phase.parse("train/lora-seed0")
    Phase(action='train', variant='', tag='lora-seed0')
    """

    action: str
    """`train`; `infer`: score the evaluation examples; `choose`: score held-out or training examples to choose by;
    `cache`: store the large model's activations; `plug`: plug a module without training; and what a stage names for
    itself alone (`align`, `cut`, `importance`)."""
    variant: str = ""
    """Tells phases of one action apart: `scaling`, `small`, `random`."""
    tag: str = ""
    """Whose phase it is (`tag_of`, `ZERO_SHOT`). Empty if all results of the stage instance share it."""

    def __str__(self) -> str:
        """The key in the metrics file."""
        head = f"{self.action}-{self.variant}" if self.variant else self.action
        return f"{head}/{self.tag}" if self.tag else head

    @classmethod
    def parse(cls, name: str) -> Phase:
        """The phase of a key in a metrics file."""
        head, _, tag = name.partition("/")
        action, _, variant = head.partition("-")
        return cls(action, variant, tag)

    @property
    def is_scoring(self) -> bool:
        """Whether it scores the evaluation examples: that is no part of adapting a model."""
        return self.action == "infer"

    @property
    def choosing(self) -> Phase:
        """For a phase that scores the evaluation examples: the one of the same model on examples to choose by."""
        return replace(self, action="choose") if self.action == "infer" else self

    @property
    def scoring(self) -> Phase:
        """The inverse of `choosing`."""
        return replace(self, action="infer") if self.action == "choose" else self

    def filled(self, kind: str, seed: int | None) -> Phase:
        """The phase of one kind and seed, from one whose tag is `OF_RESULT` or another template of these two."""
        return replace(self, tag=self.tag.format(kind=kind, seed=seed))
