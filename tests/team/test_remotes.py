"""Two people and one remote: what one has computed, the other restores. Over a directory, SSH and S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.team.project import STAGES, dvc, git, make_team, outputs, ran

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("remote", ["directory", "ssh", "s3"], indirect=True)
def test_a_colleague_computes_nothing(remote: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    team = make_team(tmp_path / "team", remote[0], **remote[1])
    ann, bob = team.clone("ann"), team.clone("bob")
    dvc(ann, "repro")
    (ann / ".work" / "tune@cb").mkdir(parents=True)
    (ann / ".work" / "tune@cb" / "activations").write_bytes(b"0" * 2**20)
    dvc(ann, "push", "--run-cache")
    assert ran(ann) == STAGES

    # By dvc.lock, as Git brings it: a plain repro then has nothing to do.
    git(ann, "add", "dvc.lock")
    git(ann, "commit", "--quiet", "-m", "results")
    git(ann, "push", "--quiet", "origin", "HEAD:main")
    git(bob, "pull", "--quiet", "origin", "main")
    dvc(bob, "pull", "--run-cache")
    assert "Running stage" not in dvc(bob, "repro")
    assert ran(bob) == []
    assert outputs(bob) == outputs(ann)

    # Caches of activations are a stage's own: nothing of `.work` travels.
    assert not (bob / ".work").exists()
    if remote[0].startswith("/"):
        sizes = [path.stat().st_size for path in Path(remote[0]).rglob("*") if path.is_file()]
        assert sizes
        assert max(sizes) < 2**20


@pytest.mark.parametrize("remote", ["directory"], indirect=True)
def test_without_a_lock_the_record_of_runs_restores(remote: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    team = make_team(tmp_path / "team", remote[0], **remote[1])
    ann, bob = team.clone("ann"), team.clone("bob")
    dvc(ann, "repro")
    dvc(ann, "push", "--run-cache")
    dvc(bob, "repro", "--pull")
    assert ran(bob) == []
    assert outputs(bob) == outputs(ann)
