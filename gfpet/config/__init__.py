"""`params.yaml` as one typed model, and reading and writing the file.

The shipped `params.yaml` equals the defaults of `Params` (a test holds it). Presets (`presets/*.yaml`) hold only
differences. Stage programs take a section and pass plain arguments to the library.
"""

from __future__ import annotations

from gfpet.config._data import Prepare
from gfpet.config._file import (
    apply_preset,
    checkpoints,
    flatten,
    flatten_keys,
    is_hub_id,
    load_params,
    preset_names,
    with_preset,
    with_values,
)
from gfpet.config._forward import Align, Plug, Prune
from gfpet.config._models import DERIVE, Checkpoint, LargeCheckpoint, Pair
from gfpet.config._params import Params, positions_before
from gfpet.config._section import TargetModule
from gfpet.config._tasks import OWN_TASKS, SHIPPED_TASKS, task_file, task_names
from gfpet.config._training import Bridge, Derive, Heal, Loop, Optimisation, Readout

__all__ = [
    "DERIVE",
    "OWN_TASKS",
    "SHIPPED_TASKS",
    "Align",
    "Bridge",
    "Checkpoint",
    "Derive",
    "Heal",
    "LargeCheckpoint",
    "Loop",
    "Optimisation",
    "Pair",
    "Params",
    "Plug",
    "Prepare",
    "Prune",
    "Readout",
    "TargetModule",
    "apply_preset",
    "checkpoints",
    "flatten",
    "flatten_keys",
    "is_hub_id",
    "load_params",
    "positions_before",
    "preset_names",
    "task_file",
    "task_names",
    "with_preset",
    "with_values",
]
