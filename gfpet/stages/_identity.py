"""The identity of a running stage's result, asked of DVC while DVC runs the stage."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gfpet.tracking import examples_read, stage_key


@dataclass(frozen=True)
class Identity:
    """The identity of a stage instance, known before it has run."""

    key: str
    """`stage_key` of the entry that `dvc.lock` will hold when the stage has ended."""
    examples: list[tuple[str, str]]
    """Path and hash of each file of prepared examples that it reads."""


def running_stage(root: Path | None = None) -> Identity | None:
    """The running stage's identity, or None outside DVC.

    DVC passes no hashes to the command that it runs, so this computes them again, the way DVC does before a run. Hashes
    of unchanged files come from DVC's cache. This takes no lock and writes nothing to the repository.

    Args:
        root: folder of `dvc.yaml`; the current one by default. (Not `DVC_ROOT`: in an experiment's temporary folder it
            names the project that the experiment belongs to.)
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
