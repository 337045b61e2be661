"""SuperGLUE as examples: sources, row checks, prompts, sampling, official metrics.

`prepare_task` is the whole way from rows to files; everything after stage `prepare` needs `read_examples` and `score`.
"""

from gfpet.data.benchmark import TASKS, TaskInfo, task_info
from gfpet.data.build import build_examples
from gfpet.data.checks import BrokenRow, BrokenRowsError, RawRow, check_rows
from gfpet.data.examples import Example, read_examples, write_examples
from gfpet.data.metrics import chance, interval, intervals, majority, score
from gfpet.data.prepare import prepare_task
from gfpet.data.prompts import Prompt, load_prompts, prompts
from gfpet.data.sampling import Splits, split_examples
from gfpet.data.sources import RawSplit, Source, generate_embedded, read_directory, read_hub

__all__ = [
    "TASKS",
    "BrokenRow",
    "BrokenRowsError",
    "Example",
    "Prompt",
    "RawRow",
    "RawSplit",
    "Source",
    "Splits",
    "TaskInfo",
    "build_examples",
    "chance",
    "check_rows",
    "generate_embedded",
    "interval",
    "intervals",
    "load_prompts",
    "majority",
    "prepare_task",
    "prompts",
    "read_directory",
    "read_examples",
    "read_hub",
    "score",
    "split_examples",
    "task_info",
    "write_examples",
]
