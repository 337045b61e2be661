"""Stage `prepare`: turns the rows of every task into examples.

Writes `outputs/prepare/<task>/{train,dev,eval}.jsonl` and `manifest.json`. For a task of the project's own it also
copies the task's file to `task.yaml`, where later stages find its metrics.

Usage: python -m gfpet.stages.prepare
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gfpet.config import OWN_TASKS, Params, task_file
from gfpet.data import (
    BrokenRow,
    BrokenRowsError,
    Source,
    Task,
    find_task,
    generate_embedded,
    prepare_task,
    read_directory,
    read_files,
    read_hub,
)
from gfpet.data.catalogue import TASK_COPY
from gfpet.stages._harness import main, stage


def read_source(task: Task, file: Path, params: Params) -> Source:
    """The task's own data files if it has any, otherwise the source named by `prepare.source`."""
    section = params.prepare
    if task.data:
        return read_files(task, file)
    if section.source == "directory" and section.directory:
        return read_directory(task, section.directory)
    if section.source == "hub":
        return read_hub(task, section.hub_id, section.hub_revision)
    return generate_embedded(task, params.synthetic.seed, section.train_size, section.dev_size, section.eval_size)


def prepare() -> None:
    """Prepare every task of `params.tasks`.

    Raises:
        BrokenRowsError: the sources contain broken rows; lists those of all tasks.
    """
    with stage("prepare", instance=None) as run:
        section = run.params.prepare
        broken: list[BrokenRow] = []
        for name in run.params.tasks:
            folder = run.output / name
            with run.measure(name):
                task, file = find_task(name), task_file(name) or Path()
                source = read_source(task, file, run.params)
                try:
                    manifest = prepare_task(
                        task,
                        source,
                        folder,
                        train_size=section.train_size,
                        dev_size=section.dev_size,
                        eval_size=section.eval_size,
                        seed=section.seed,
                    )
                except BrokenRowsError as error:
                    broken.extend(error.rows)
                    continue
                if file.parent == Path(OWN_TASKS):
                    shutil.copyfile(file, folder / TASK_COPY)
            for split, written in manifest["splits"].items():
                run.log_value(f"{name}.{split}", written["examples"])
                run.log_dataset(f"{name}-{split}", folder / written["file"], str(source), written["sha256"])
            counts = ", ".join(f"{written['examples']} {split}" for split, written in manifest["splits"].items())
            run.say("; ".join([f"{name}: {counts}", *manifest["notes"]]))
        if broken:
            raise BrokenRowsError(broken)


if __name__ == "__main__":
    main(prepare)
