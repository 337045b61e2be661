"""Finds, reads and checks task files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gfpet.config import OWN_TASKS, SHIPPED_TASKS, task_file, task_names
from gfpet.data._task_checks import key_problem, problems
from gfpet.data.formats._types import as_text
from gfpet.data.task import Task
from gfpet.errors import DataError, unknown

PREPARED = Path("outputs/prepare")
TASK_COPY = "task.yaml"
"""Copy of a user's task file, beside its examples."""


def find_task(name: str, project: Path = Path()) -> Task:
    """A shipped task, or a task of the project (`task_files/<name>.yaml`).

    Raises:
        DataError: there is no such task (names the nearest and all), or its file is invalid.
    """
    path = task_file(name, project)
    if path is None:
        raise DataError(unknown("task", name, task_names(project)))
    if path.parent == SHIPPED_TASKS:
        own = project / OWN_TASKS / path.name
        if own.exists():
            raise DataError(f"{own}: '{name}' is the name of a shipped task; give the file and its `name` another one.")
        return shipped_tasks()[name]
    return _named(path)


def scored_task(name: str) -> Task:
    """The task whose metrics score examples: a shipped task, or the copy that stage `prepare` saved with its examples.

    Raises:
        DataError: neither exists.
    """
    if name in shipped_tasks():
        return shipped_tasks()[name]
    path = PREPARED / name / TASK_COPY
    if not path.is_file():
        raise DataError(
            f"{unknown('task', name, shipped_tasks())} Or the name of a task of one's own that has been prepared: "
            f"there is no {path}; run the stage 'prepare' first (dvc repro prepare)."
        )
    return load_task_file(path)


@cache
def shipped_tasks() -> Mapping[str, Task]:
    """The eight tasks of SuperGLUE (Wang et al. 2019, https://super.gluebenchmark.com/tasks), by name."""
    return MappingProxyType({path.stem: _named(path) for path in sorted(SHIPPED_TASKS.glob("*.yaml"))})


def load_task_file(path: Path) -> Task:
    """Read and check a task file.

    Raises:
        DataError: one line for each key that is unknown, missing or invalid.
    """
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        text = json.dumps(_with_text_keys(values), default=str)
    except (YAMLError, ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path} cannot be read as YAML: {type(error).__name__}: {error}") from error
    try:
        # Validate JSON: strict Python input rejects a list for a tuple, and lax input accepts "1" for 1.
        task = Task.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _misfit(path, [key_problem(detail) for detail in error.errors()]) from error
    found = list(problems(task))
    if found:
        raise _misfit(path, found)
    return task


def _misfit(path: Path, found: list[str]) -> DataError:
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    return DataError(f"{path}: {count}\n" + "\n".join(f"  {line}" for line in found))


def _named(path: Path) -> Task:
    task = load_task_file(path)
    if task.name != path.stem:
        raise _misfit(path, [f"name: found '{task.name}', but the file's name makes it '{path.stem}'; use one name"])
    return task


def _with_text_keys(value: Any) -> Any:
    """The value with all keys as text, so that a label may be written `true` or `1`."""
    if isinstance(value, dict):
        return {str(as_text(key)): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value
