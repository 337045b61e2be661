"""Peak-memory estimates: each method's real code, run under fake tensors."""

from __future__ import annotations

from gfpet.estimate._compare import compare
from gfpet.estimate._derive import derived_shape
from gfpet.estimate._fake import fake_tensors
from gfpet.estimate._methods import OTHERS, Method, Peaks, run_method
from gfpet.estimate._mezo import mezo_step
from gfpet.estimate._ours import kind_stages, shared_stages
from gfpet.estimate._plan import Fit, plan_within
from gfpet.estimate._profile import profile_stage
from gfpet.estimate._quantised import quantise_fake
from gfpet.estimate._ratios import as_records, ratios
from gfpet.estimate._run import OURS, STAGES, Estimate, estimate, estimate_methods
from gfpet.estimate._shapes import CURVE, KNOWN, find_shape
from gfpet.estimate._workload import Shape, Workload, parameters_of, shaped

__all__ = [
    "CURVE",
    "KNOWN",
    "OTHERS",
    "OURS",
    "STAGES",
    "Estimate",
    "Fit",
    "Method",
    "Peaks",
    "Shape",
    "Workload",
    "as_records",
    "compare",
    "derived_shape",
    "estimate",
    "estimate_methods",
    "fake_tensors",
    "find_shape",
    "kind_stages",
    "mezo_step",
    "parameters_of",
    "plan_within",
    "profile_stage",
    "quantise_fake",
    "ratios",
    "run_method",
    "shaped",
    "shared_stages",
]
