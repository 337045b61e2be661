"""Splits the peak of one stage by the module that allocated the memory."""

from __future__ import annotations

from gfpet.config import Params
from gfpet.errors import ConfigError, unknown
from gfpet.estimate._methods import Method, run_method
from gfpet.estimate._ours import kind_stages
from gfpet.estimate._workload import Shape, Workload
from gfpet.lm.registry import TUNING_METHODS
from gfpet.memory import Label

_OURS = ("bridge", "tune S")


def profile_stage(
    stage: str, kind: str, small: Shape, large: Shape, work: Workload, params: Params
) -> dict[Label, int]:
    """Bytes by category and module; their sum is the stage's peak.

    Args:
        stage: a training stage of ours, or a method by gradients of L.
        kind: kind of module, for our stages.

    Raises:
        ConfigError: no such stage, or the parameters do not use it.
    """
    if stage == "bridge" and not params.bridge.epochs:
        raise ConfigError("bridge.epochs is 0, so that no Bridge is trained: there is nothing to profile; set it to 1.")
    if stage in _OURS:
        reading = kind_stages(kind, small, large, work, params, only=(stage,), by_module=True)[stage]
    elif stage in TUNING_METHODS:
        reading = run_method(Method(stage), large, work, params, by_module=True)["tune L"]
    else:
        raise ConfigError(unknown("stage to profile", stage, (*_OURS, *TUNING_METHODS)))
    return dict(reading.cpu_live_parts or {})
