"""Finds task files: eight are shipped, and a project may add its own."""

from __future__ import annotations

from pathlib import Path

SHIPPED_TASKS = Path(__file__).parents[1] / "data" / "tasks"
OWN_TASKS = "task_files"
"""Folder of a project's own task files, `<name>.yaml`."""


def task_names(project: Path = Path()) -> list[str]:
    """Names of all tasks of a project: the shipped ones, then its own, each group sorted."""
    shipped = sorted(path.stem for path in SHIPPED_TASKS.glob("*.yaml"))
    own = sorted(path.stem for path in (project / OWN_TASKS).glob("*.yaml"))
    return [*shipped, *(name for name in own if name not in shipped)]


def task_file(name: str, project: Path = Path()) -> Path | None:
    """The file of a task, or None if there is none."""
    for folder in (SHIPPED_TASKS, project / OWN_TASKS):
        path = folder / f"{name}.yaml"
        if name in task_names(project) and path.is_file():
            return path
    return None
