"""Tasks as data: a task is one YAML file that turns the rows of a source into examples with metrics.

To add a task, write one file: `task_files/<name>.yaml` in the project (task_files/README.md explains its keys), or
`gfpet/data/tasks/<name>.yaml` for a shipped task. It gives the source of the rows, their fields, the template of the
context, the labels with their verbalizers or the candidates, and the metrics. Stages after `prepare` see only examples
(`Example`): contexts, candidates and the right candidates.

A row passes these steps: a source (`read_directory`, `read_hub`, `generate_embedded`, `read_files`) yields raw rows
with their origins, `check_rows` rejects broken rows, `build_examples` fills the templates, and `split_examples` draws
the splits. `prepare_task` runs all steps. `score`, `interval`, `chance` and `majority` apply a task's metrics.
"""

from gfpet.data.build import build_examples
from gfpet.data.catalogue import find_task, load_task_file, scored_task, shipped_tasks
from gfpet.data.checks import check_rows
from gfpet.data.examples import Example, read_examples, write_examples
from gfpet.data.files import read_files
from gfpet.data.metrics import chance, interval, intervals, majority, score
from gfpet.data.prepare import prepare_task
from gfpet.data.rows import BrokenRow, BrokenRowsError, RawRow, Row
from gfpet.data.sampling import Splits, split_examples
from gfpet.data.sources import RawSplit, Source, from_hub, generate_embedded, read_directory, read_hub
from gfpet.data.task import Task

__all__ = [
    "BrokenRow",
    "BrokenRowsError",
    "Example",
    "RawRow",
    "RawSplit",
    "Row",
    "Source",
    "Splits",
    "Task",
    "build_examples",
    "chance",
    "check_rows",
    "find_task",
    "from_hub",
    "generate_embedded",
    "interval",
    "intervals",
    "load_task_file",
    "majority",
    "prepare_task",
    "read_directory",
    "read_examples",
    "read_files",
    "read_hub",
    "score",
    "scored_task",
    "shipped_tasks",
    "split_examples",
    "write_examples",
]
