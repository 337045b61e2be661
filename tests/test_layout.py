"""The declarative files (dvc.yaml, params.yaml, pyproject.toml) against the code, and the direction of imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from gfpet.lm.registry import KINDS

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES: dict[str, dict[str, Any]] = DVC["stages"]
RUN_STAGES = [name for name, stage in STAGES.items() if not stage.get("frozen")]

CANNOT_CHANGE_A_RESULT = {
    "gfpet": "a version and nothing else",
    "gfpet.stages": "hands a program over to the stage server",
    "gfpet.errors": "texts of errors",
    "gfpet.config": "reads, checks and writes params.yaml; the values that a stage reads are among its params",
    "gfpet.lm": "a docstring",
    "gfpet.method": "a docstring",
    "gfpet.pipeline": "names of stages and phases; tests hold the names of phases, which metrics files have",
    "gfpet.tracking": "tells MLflow what came out",
    "gfpet.stages._handover": "the client of the stage server",
    "gfpet.stages._harness": "folders, metrics files and MLflow around a stage's own work",
    "gfpet.stages._identity": "the name of a result",
    "gfpet.stages._state": "what a killed run resumes from",
}
"""Modules that are no dependency in dvc.yaml, each with the reason. As one, every edit of them would run all stages."""

ONLY_FOR = {"gfpet.synthetic": {"prepare", "pretrain"}}
"""Packages that only these stages call. Others import them through `gfpet.data`, and use only their files."""

READ_BEFORE_THE_START = {"kinds"}
"""Parameters that a shared helper reads, but that change no result of a stage that does not name them."""

NOT_CALLED = {
    "bridge": {"modules"},
    "readout": {"modules"},
    "derive": {"modules"},
    "prune": {"modules"},
}
"""Parameters that a shared helper reads in a function that these stages do not call."""

OPTIONAL = {
    "gfpet.lm.models._placement": "quantised",
    "gfpet.estimate._quantised": "quantised",
    "gfpet.estimate._offload": "offload",
    "tasks.services.object_store": "team",
    "flows.dask_cluster": "dask",
}
"""Modules that import packages of an optional extra of pyproject.toml, and report a missing one."""

DISTRIBUTIONS = {
    "huggingface_hub": "huggingface-hub",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "xdist": "pytest-xdist",
    "yaml": "pyyaml",
}


def modules(folder: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


OURS = dict(item for folder in ("gfpet", "tasks", "flows") for item in modules(folder))


@cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports anywhere; for our packages the modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {name for alias in node.names if (name := f"{node.module}.{alias.name}") in OURS}
    return frozenset(found)


def files_used(path: Path) -> set[str]:
    """Our modules from which a file imports names; a package only if the file imports more from it than modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in OURS else node.module for name in names}
    return found & OURS.keys()


def cannot_change_a_result(module: str) -> bool:
    return module in CANNOT_CHANGE_A_RESULT or module.startswith("gfpet.tracking.")


def reached(module: str) -> set[str]:
    """Our modules that are loaded with a module, and can change a result."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        # Modules that the harness uses to measure and write count, but the harness itself does not.
        if name not in OURS or name in seen or (cannot_change_a_result(name) and name != "gfpet.stages._harness"):
            continue
        seen.add(name)
        waiting += [*imports(OURS[name]), name.rpartition(".")[0]]
    return {name for name in seen if not cannot_change_a_result(name)}


def is_covered(name: str, deps: set[str]) -> bool:
    path = OURS[name].relative_to(ROOT)
    return any(str(part) in deps for part in (path, *path.parents))


def read_params(path: Path) -> set[str]:
    """Dotted keys of `params` that a program reads, as far as they are written out."""
    keys: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        parts: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            parts.insert(0, value.attr)
            value = value.value
        parts.insert(0, value.id if isinstance(value, ast.Name) else "")
        if "params" in parts[:-1]:
            keys.add(".".join(parts[parts.index("params") + 1 :]))
    return keys


@pytest.mark.parametrize("name", STAGES)
def test_each_stage_has_its_program_and_its_folders(name: str) -> None:
    stage = STAGES[name]
    items = " ".join(f"${{item.{key}}}" for key in stage.get("matrix", {}))
    assert stage["cmd"] == f"python -m gfpet.stages.{name} {items}".strip()
    assert (ROOT / "gfpet" / "stages" / f"{name}.py").is_file()
    instance = "".join(f"/${{item.{key}}}" for key in stage.get("matrix", {}))
    if name not in ("pretrain", "report"):
        assert stage["outs"] == [f"outputs/{name}{instance}"]
    if name != "pretrain":
        assert stage["metrics"] == [f"metrics/{name}{instance}.json"]
    for plot in stage.get("plots", []):
        assert list(plot) == [f"curves/{name}{instance}.csv"]


@pytest.mark.parametrize("name", STAGES)
def test_each_named_parameter_exists(name: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for family in values["families"]:
        for key in STAGES[name].get("params", []):
            value = values
            for part in key.replace("${item.family}", family).split("."):
                assert part in value, f"{name}: {key}"
                value = value[part]


@pytest.mark.parametrize("name", RUN_STAGES)
def test_each_parameter_that_is_read_is_named(name: str) -> None:
    named = {re.sub(r"\.\$\{.*", "", key) for key in STAGES[name]["params"]}
    helpers = {each for each in reached(f"gfpet.stages.{name}") if each.startswith("gfpet.stages._")}
    read = {key for each in helpers for key in read_params(OURS[each])} - READ_BEFORE_THE_START
    read = (read - NOT_CALLED.get(name, set())) | read_params(OURS[f"gfpet.stages.{name}"])
    missing = {key for key in read if not any(_overlap(key, each) for each in named)}
    assert missing == set(), f"{name}: name these in its params"


def _overlap(key: str, other: str) -> bool:
    """Whether the keys are equal, or one is a section that contains the other."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")


@pytest.mark.parametrize("name", RUN_STAGES)
def test_each_imported_package_is_a_dependency(name: str) -> None:
    deps = set(STAGES[name]["deps"])
    needed = reached(f"gfpet.stages.{name}")
    needed -= {
        each for each in needed for only, users in ONLY_FOR.items() if each.startswith(only) and name not in users
    }
    missing = {each for each in needed if not is_covered(each, deps)}
    assert missing == set(), f"{name}: name these in its deps, or say in CANNOT_CHANGE_A_RESULT why not"


@pytest.mark.parametrize("name", RUN_STAGES)
def test_each_dependency_in_the_code_exists(name: str) -> None:
    for dep in STAGES[name]["deps"]:
        if dep.startswith("gfpet/"):
            assert (ROOT / dep).exists(), f"{name}: {dep}"


def test_align_runs_again_for_other_target_modules_alone() -> None:
    named = {key for key in STAGES["align"]["params"] if key.startswith("modules")}
    assert named == {
        f"modules.{name}.target_modules" for name, kind in KINDS.items() if "target_modules" in kind.options
    }


def test_only_bridge_depends_on_the_bridges_code() -> None:
    assert [name for name in RUN_STAGES if "gfpet/method/bridge" in STAGES[name]["deps"]] == ["bridge"]
    assert [name for name in RUN_STAGES if "bridge" in STAGES[name]["params"]] == ["bridge"]


@pytest.mark.parametrize("name", OURS)
def test_imports_go_one_way(name: str) -> None:
    above = {
        "flows": set(),
        "tasks": {"flows"},
        "stages": {"flows", "tasks", "prefect"},
        "library": {"flows", "tasks", "prefect", "dvc"},
    }
    first, _, rest = name.partition(".")
    layer = first if first in ("flows", "tasks") else "stages" if rest.startswith("stages") else "library"
    forbidden = above[layer]
    found = {each for each in imports(OURS[name]) if each.partition(".")[0] in forbidden}
    if layer == "stages" and name != "gfpet.stages._identity":
        found |= {each for each in imports(OURS[name]) if each.partition(".")[0] == "dvc"}
    if layer == "library":
        found |= {each for each in imports(OURS[name]) if each.startswith("gfpet.stages")}
    assert found == set()


def test_no_file_imports_itself_through_others() -> None:
    """Includes imports in functions and under TYPE_CHECKING."""
    below = {name: files_used(path) for name, path in OURS.items()}
    left = dict(below)
    while free := [name for name, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    # The rest imports a cycle or is in one; only modules in a cycle are also imported by the rest.
    while outer := [name for name in left if not any(name in below[other] for other in left)]:
        for name in outer:
            del left[name]
    assert {name: sorted(below[name] & left.keys()) for name in left} == {}


def test_each_imported_distribution_is_declared_and_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {_distribution(line) for line in project["dependencies"]}
    dev = core | {_distribution(line) for line in project["optional-dependencies"]["dev"]}
    pinned = {_distribution(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split()}
    every = {_distribution(line) for lines in project["optional-dependencies"].values() for line in lines} | core
    assert every - pinned == set()
    extras = {
        name: {_distribution(line) for line in project["optional-dependencies"][OPTIONAL[name]]} for name in OPTIONAL
    }
    checked = [([path], core | extras.get(name, set())) for name, path in OURS.items()]
    for paths, declared in (*checked, ([path for _, path in modules("tests")], dev)):
        used = {each.partition(".")[0] for path in paths for each in imports(path)}
        used -= set(sys.stdlib_module_names) | {"gfpet", "tasks", "flows", "tests", "benchmarks"}
        assert {DISTRIBUTIONS.get(each, each.replace("_", "-")) for each in used} - declared == set()


def _distribution(line: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", line)
    return re.sub(r"[-_.]+", "-", name.group()).lower() if name else ""
