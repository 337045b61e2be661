"""What SuperGLUE is, in one place: folder names, classes, metrics and official sizes of its eight tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gfpet.errors import DataError, unknown


@dataclass(frozen=True)
class TaskInfo:
    """One task of SuperGLUE (Wang et al. 2019, https://super.gluebenchmark.com/tasks)."""

    folder: str
    """Folder of the official release; its files are `train.jsonl` and `val.jsonl`."""
    metrics: tuple[str, ...]
    """Official metrics; the task's score is their mean."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of the candidates; empty where candidates are ranked."""

    @property
    def ranking(self) -> bool:
        """Whether each example has candidates of its own (COPA, ReCoRD, WSC)."""
        return not self.classes


TASKS: Mapping[str, TaskInfo] = MappingProxyType(
    {
        "boolq": TaskInfo("BoolQ", ("accuracy",), ("true", "false")),
        "cb": TaskInfo("CB", ("accuracy", "f1_macro"), ("entailment", "contradiction", "neutral")),
        "copa": TaskInfo("COPA", ("accuracy",)),
        "multirc": TaskInfo("MultiRC", ("f1a", "em"), ("true", "false")),
        "record": TaskInfo("ReCoRD", ("f1", "em")),
        "rte": TaskInfo("RTE", ("accuracy",), ("entailment", "not_entailment")),
        "wic": TaskInfo("WiC", ("accuracy",), ("true", "false")),
        "wsc": TaskInfo("WSC", ("accuracy",)),
    }
)


def task_info(task: str) -> TaskInfo:
    """The entry of `TASKS`.

    Raises:
        DataError: there is no such task; names the nearest and all.
    """
    if task not in TASKS:
        raise DataError(unknown("task", task, TASKS))
    return TASKS[task]
