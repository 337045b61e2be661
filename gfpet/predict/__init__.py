"""Memory foretold: the real steps of every method, run on sizes alone."""

from __future__ import annotations

from gfpet.predict._compare import compare
from gfpet.predict._derive import derived_shape
from gfpet.predict._few_bits import into_few_bits
from gfpet.predict._methods import GRADIENT, OTHERS, Method, Peaks, run_method
from gfpet.predict._ours import kind_stages, shared_stages
from gfpet.predict._plan import Fit, plan_within
from gfpet.predict._profile import profile_stage
from gfpet.predict._ratios import as_records, ratios
from gfpet.predict._run import OURS, STAGES, Forecast, forecast, predict_methods
from gfpet.predict._shapes import CURVE, KNOWN, find_shape
from gfpet.predict._sizes_only import sizes_only
from gfpet.predict._workload import Shape, Workload, parameters_of, shaped

__all__ = [
    "CURVE",
    "GRADIENT",
    "KNOWN",
    "OTHERS",
    "OURS",
    "STAGES",
    "Fit",
    "Forecast",
    "Method",
    "Peaks",
    "Shape",
    "Workload",
    "as_records",
    "compare",
    "derived_shape",
    "find_shape",
    "forecast",
    "into_few_bits",
    "kind_stages",
    "parameters_of",
    "plan_within",
    "predict_methods",
    "profile_stage",
    "ratios",
    "run_method",
    "shaped",
    "shared_stages",
    "sizes_only",
]
