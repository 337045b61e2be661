"""The list of stages against dvc.yaml, and phase names."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import gfpet.pipeline
from gfpet.pipeline import ESTIMATED_PEAKS, OF_RESULT, STAGE_NAMES, STAGES, Phase, Stage, tag_of

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def test_the_list_has_the_stages_of_dvc_yaml() -> None:
    assert sorted(STAGE_NAMES) == sorted(DVC)
    assert len(set(STAGE_NAMES)) == len(STAGE_NAMES)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_each_stage_has_the_instances_of_dvc_yaml(stage: Stage) -> None:
    matrix = {"none": [], "family": ["family"], "task": ["family", "task"]}[stage.matrix]
    assert list(DVC[stage.name].get("matrix", {})) == matrix


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_each_stage_comes_after_those_whose_outputs_it_reads(name: str) -> None:
    read = {dep.split("/")[1] for dep in DVC[name].get("deps", []) if dep.startswith(("outputs/", "metrics/"))}
    earlier = STAGE_NAMES[: STAGE_NAMES.index(name)]
    assert read <= set(earlier)


def test_stages_with_rows_run_for_each_task() -> None:
    assert {stage.matrix for stage in STAGES if stage.has_rows} == {"task"}


def test_each_estimated_peak_is_of_a_stage() -> None:
    assert {peak.stage for peak in ESTIMATED_PEAKS} <= set(STAGE_NAMES)


@pytest.mark.parametrize(
    ("phase", "name"),
    [
        (Phase("cache"), "cache"),
        (Phase("importance", "activation"), "importance-activation"),
        (Phase("train", tag="lora-seed0"), "train/lora-seed0"),
        (Phase("plug", tag="lora-seed0"), "plug/lora-seed0"),
        (Phase("infer", tag="zero-shot"), "infer/zero-shot"),
        (Phase("infer", tag="readout-seed1"), "infer/readout-seed1"),
        (Phase("infer", "scaling", "lora-seed0"), "infer-scaling/lora-seed0"),
        (Phase("choose", "blockwise_scaling", "lora-seed0"), "choose-blockwise_scaling/lora-seed0"),
        (Phase("infer", "small", "zero-shot"), "infer-small/zero-shot"),
    ],
)
def test_a_phase_has_one_name(phase: Phase, name: str) -> None:
    assert str(phase) == name
    assert Phase.parse(name) == phase


WORD = st.from_regex(r"[a-z_]+", fullmatch=True)


@given(WORD, st.just("") | WORD, st.just("") | st.from_regex(r"[a-z0-9-]+", fullmatch=True))
def test_parsing_inverts_rendering(action: str, variant: str, tag: str) -> None:
    phase = Phase(action, variant, tag)
    assert Phase.parse(str(phase)) == phase


def test_choosing_and_scoring_are_of_the_same_model() -> None:
    scoring = Phase("infer", "scaling", "lora-seed0")
    assert str(scoring.choosing) == "choose-scaling/lora-seed0"
    assert scoring.choosing.scoring == scoring
    assert (scoring.is_scoring, scoring.choosing.is_scoring) == (True, False)
    training = Phase("train", tag="lora-seed0")
    assert training.choosing == training.scoring == training


def test_a_phase_of_a_result_is_filled_in() -> None:
    assert str(Phase("infer", "scaling", OF_RESULT).filled("lora", 3)) == f"infer-scaling/{tag_of('lora', 3)}"
    assert tag_of("", 3) == "seed3"


def test_the_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(gfpet.pipeline).failed == 0
