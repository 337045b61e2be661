"""Which result a running stage is about to make: its key, taken from DVC while DVC runs it."""

from __future__ import annotations

import os
from pathlib import Path

from gfpet.tracking.keys import stage_key

__all__ = ["key_of_running_stage", "stage_key"]


def key_of_running_stage(root: Path | None = None) -> str | None:
    """`stage_key` of what will stand in `dvc.lock` when the running stage has ended, or None outside DVC.

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
        return stage_key(to_single_stage_lockfile(stage))
