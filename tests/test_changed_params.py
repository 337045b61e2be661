"""Which stages a change in `params.yaml` runs again: those that name the key in `dvc.yaml`, and their dependents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx
import pytest

from gfpet.config import flatten, load_params

ROOT = Path(__file__).parents[1]

WITH_MODEL = "derive tune reference align prune bridge readout evaluate similarity"
WITH_KINDS = "tune reference align bridge evaluate similarity"

FIRST: dict[str, str] = {
    "preset": "",
    "families": "report",
    "tasks": "prepare derive align prune similarity report",
    "kinds": f"{WITH_KINDS} report",
    "seeds": "tune reference bridge readout evaluate similarity report",
    "synthetic": "prepare",
    "prepare": "prepare",
    "models.device": WITH_MODEL,
    "models.threads": WITH_MODEL,
    "models.max_length": WITH_MODEL,
    "models.gpt2.small": "derive tune align evaluate similarity",
    "models.gpt2.small.path": "derive tune align bridge evaluate similarity",
    "models.gpt2.large": "derive reference align prune bridge readout evaluate similarity",
    "models.llama": "",
    "models.t5": "",
    "modules": "tune reference",
    "modules.lora.target_modules": "tune reference align",
    "modules.adapter.target_modules": "tune reference align",
    "modules.vera.target_modules": "tune reference align",
    "derive": "derive",
    "tune": "tune",
    "reference": "reference",
    "reference.methods": "reference report",
    "align": "align",
    "similarity": "similarity",
    "prune": "prune",
    "plug": "bridge",
    "plug.divide_by_copies": "bridge evaluate",
    "bridge": "bridge",
    "readout": "readout",
    "evaluate": "evaluate",
    "evaluate.auto": "evaluate report",
    "report": "report",
}
"""Key or section → stages that name it, without matrices. The longest matching entry applies to a key."""

THEN: dict[str, str] = {
    "prepare": "derive tune reference align prune bridge readout evaluate similarity report",
    "derive": "tune align bridge evaluate similarity report",
    "tune": "bridge evaluate similarity report",
    "reference": "similarity report",
    "align": "bridge evaluate similarity report",
    "prune": "bridge evaluate report",
    "bridge": "evaluate report",
    "readout": "evaluate report",
    "evaluate": "report",
    "similarity": "report",
    "report": "",
}
"""Stage → all its direct and indirect dependents."""


@pytest.fixture(scope="module")
def graph() -> networkx.DiGraph:
    """Graph with edges from stages to their dependents, without matrices; node attribute `params` has their keys."""
    from dvc.repo import Repo

    found = networkx.DiGraph()
    with Repo(str(ROOT), uninitialized=True) as repo:
        for stage in repo.index.graph:
            if not stage.frozen and hasattr(stage, "name"):
                keys = {key for dep in stage.deps for key in getattr(dep, "params", None) or ()}
                found.add_node(_base(stage), params=keys)
        for stage, need in repo.index.graph.edges:
            if not need.frozen and _base(need) != _base(stage):
                found.add_edge(_base(need), _base(stage))
    return found


def _base(stage: Any) -> str:
    name: str = stage.name
    return name.partition("@")[0]


def test_each_key_runs_the_stages_of_the_table(graph: networkx.DiGraph) -> None:
    found = {key: _naming(graph, key) for key in flatten(load_params(ROOT / "params.yaml"))}
    assert found == {key: set(FIRST[_entry(key)].split()) for key in found}
    assert {_entry(key) for key in found} == set(FIRST), "an entry of the table fits no key"


def test_each_stage_is_followed_by_those_of_the_table(graph: networkx.DiGraph) -> None:
    assert {name: networkx.descendants(graph, name) for name in graph} == {
        name: set(after.split()) for name, after in THEN.items()
    }


def _naming(graph: networkx.DiGraph, key: str) -> set[str]:
    named = graph.nodes(data="params")
    return {stage for stage, keys in named if any(f"{key}.".startswith(f"{each}.") for each in keys)}


def _entry(key: str) -> str:
    return max((entry for entry in FIRST if f"{key}.".startswith(f"{entry}.")), key=len)
