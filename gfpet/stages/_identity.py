"""Which result a running stage is about to make, taken from DVC while DVC runs it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gfpet.tracking import examples_read, stage_key


@dataclass(frozen=True)
class Identity:
    """What a stage instance is, before it has run."""

    key: str
    """`stage_key` of what will stand in `dvc.lock` when the stage has ended."""
    examples: list[tuple[str, str]]
    """Path and hash of the prepared examples that it reads."""


def running_stage(root: Path | None = None) -> Identity | None:
    """The running stage's identity, or None outside DVC.

    DVC hands no hashes to the command that it runs, so they are taken again, in the way DVC takes them before a run:
    unchanged files come out of its own cache of hashes. No lock is needed and nothing is written to the repository.

    Args:
        root: folder of `dvc.yaml`; the current one by default. (`DVC_ROOT` will not do: in the temporary folder of an
            experiment it names the project that the experiment belongs to.)
    """
    address = os.environ.get("DVC_STAGE")
    if not address:
        return None
    from dvc.repo import Repo
    from dvc.stage.serialize import to_single_stage_lockfile

    with Repo(str(root or Path.cwd())) as repo:
        stage = repo.stage.load_one(path="dvc.yaml", name=address.rpartition(":")[2])
        stage.save_deps(allow_missing=True)
        stage.outs = []
        entry = to_single_stage_lockfile(stage)
    return Identity(stage_key(entry), examples_read(entry))
