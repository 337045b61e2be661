"""An unattended run of the pipeline: nightly, weekly, or started in Prefect's pages.

It runs in a clone of the project, so that the working folder stays unchanged. The next run with the same code and
parameters resumes a killed one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger

from flows.reproduce import reproduce
from gfpet.config import apply_preset
from gfpet.tracking.store import PROJECT_ENV
from tasks.clone import claimed_clone, clones_home
from tasks.dvc_stage import StageResult
from tasks.git import git, head, require_repository
from tasks.remote import has_remote
from tasks.workspace import find_root


@flow(name="pipeline", persist_result=False)
def pipeline(
    preset: str | None = None,
    overrides: Sequence[str] = (),
    targets: Sequence[str] = (),
    revision: str = "HEAD",
    share: bool | None = None,
) -> dict[str, StageResult]:
    """Run the pipeline at a commit of the project.

    Args:
        preset: A file of `presets/`, without `.yaml`; by default `params.yaml` as it is committed.
        overrides: Changes of single keys, `prune.factor=8`.
        targets: Stages, as for `dvc repro`; by default all.
        revision: Commit, branch or tag: `HEAD` is the commit checked out in the project's folder, `origin/main` the
            team's latest.
        share: Pull from the DVC remote before, and push to it after; by default if there is one.

    Raises:
        ConfigError: a preset, an override, a target or the remote is invalid; then nothing has run.
        GitError: no such revision.
        PipelineError: stages failed.
    """
    project = find_root(Path.cwd())
    require_repository(project)
    if git(project, "remote"):
        git(project, "fetch", "--quiet", "--all")
    commit = head(project, revision)
    params = params_at(project, commit, preset, overrides)
    get_run_logger().info("commit %s of %s", commit[:12], project)
    # The clone may be deleted: keep MLflow's runs in the project's store.
    os.environ[PROJECT_ENV] = str(project)
    with claimed_clone(clones_home(), str(project), commit, params) as root:
        local = project / ".dvc" / "config.local"
        if local.is_file():
            shutil.copy(local, root / ".dvc" / "config.local")
        sharing = has_remote(root) if share is None else share
        # The parameters may differ from the commit's: MLflow's runs have a tag for that, and the parameters themselves.
        return reproduce(root, targets, pull=sharing, push=sharing, allow_dirty=True)


def params_at(project: Path, commit: str, preset: str | None, overrides: Sequence[str]) -> str:
    """Text of a commit's `params.yaml` with a preset and overrides applied and checked.

    Raises:
        ConfigError: the result is invalid.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "presets").mkdir()
        (folder / "task_files").mkdir()
        listed = git(project, "ls-tree", "--name-only", commit, "params.yaml", "presets/", "task_files/")
        for name in (line for line in listed.splitlines() if line.endswith(".yaml")):
            (folder / name).write_text(git(project, "show", f"{commit}:{name}") + "\n", encoding="utf-8")
        apply_preset(preset, list(overrides), folder / "params.yaml")
        return (folder / "params.yaml").read_text(encoding="utf-8")
