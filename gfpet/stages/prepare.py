"""Stage `prepare`: rows of SuperGLUE to examples, `outputs/prepare/<task>/{train,dev,eval}.jsonl` and `manifest.json`.

python -m gfpet.stages.prepare
"""

from __future__ import annotations

from gfpet.config import Params
from gfpet.data import BrokenRow, BrokenRowsError, Source, generate_embedded, prepare_task, read_directory, read_hub
from gfpet.stages._harness import main, stage


def read_source(task: str, params: Params) -> Source:
    """The task's rows from the source that `prepare.source` names."""
    section = params.prepare
    if section.source == "directory" and section.directory:
        return read_directory(task, section.directory)
    if section.source == "hub":
        return read_hub(task, section.hub_id, section.hub_revision)
    return generate_embedded(task, params.synthetic.seed, section.train_size, section.dev_size, section.eval_size)


def prepare() -> None:
    """Prepare every task of `params.tasks`; broken rows of all of them are reported together."""
    with stage("prepare", instance=None) as run:
        section = run.params.prepare
        broken: list[BrokenRow] = []
        for task in run.params.tasks:
            folder = run.output / task
            with run.measure(task):
                source = read_source(task, run.params)
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
            for split, written in manifest["splits"].items():
                run.log_value(f"{task}.{split}", written["examples"])
                run.log_dataset(f"{task}-{split}", folder / written["file"], str(source), written["sha256"])
            counts = ", ".join(f"{written['examples']} {split}" for split, written in manifest["splits"].items())
            run.say("; ".join([f"{task}: {counts}", *manifest["notes"]]))
        if broken:
            raise BrokenRowsError(broken)


if __name__ == "__main__":
    main(prepare)
