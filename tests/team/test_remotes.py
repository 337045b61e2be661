"""Two users share one remote, over a directory, SSH and S3: one computes results, the other restores them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.team.project import (
    STAGES,
    ask,
    change_input,
    dvc,
    gfpet,
    git,
    make_team,
    outputs,
    ran,
    refused,
    tracked_runs,
)

pytestmark = pytest.mark.integration

Remote = tuple[str, dict[str, str]]


def commit_and_push(root: Path, what: str) -> str:
    """Commit tracked files and `dvc.lock`, and push them; return the commit."""
    git(root, "add", "dvc.lock")
    git(root, "commit", "--quiet", "--all", "-m", what)
    git(root, "push", "--quiet", "origin", "HEAD:main")
    return git(root, "rev-parse", "HEAD").strip()


def restore(root: Path) -> None:
    """Pull a colleague's results with Git and DVC; a plain repro must then have nothing to do."""
    git(root, "pull", "--quiet", "origin", "main")
    dvc(root, "pull", "--run-cache")
    assert "Running stage" not in dvc(root, "repro")


@pytest.mark.slow
@pytest.mark.usefixtures("team_environment")
@pytest.mark.parametrize("remote", ["directory", "ssh", "s3"], indirect=True)
def test_two_people(remote: Remote, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    team = make_team(tmp_path / "team", remote[0], **remote[1])
    ann, bob = team.clone("ann"), team.clone("bob")
    hers = change_input(ann, request.node.callspec.id)  # so that the results differ from those of other remotes
    (ann / ".work" / "tune@cb").mkdir(parents=True)
    (ann / ".work" / "tune@cb" / "activations").write_bytes(b"0" * 2**20)
    assert "stages: 4 ran" in gfpet(ann, "run", "--push")
    commit_and_push(ann, "results")
    assert ran(ann) == STAGES

    restore(bob)
    assert ran(bob) == []
    assert outputs(bob) == outputs(ann)
    # Activation caches are local: nothing in `.work` is shared.
    assert not (bob / ".work" / "tune@cb").exists()
    if remote[0].startswith("/"):
        sizes = [path.stat().st_size for path in Path(remote[0]).rglob("*") if path.is_file()]
        assert sizes
        assert max(sizes) < 2**20

    ask(bob, "preset", "-S", "tune.epochs=3")
    his = commit_and_push(bob, "longer")
    assert "stages: 3 ran, 1 unchanged" in gfpet(bob, "run", "--pull", "--push")
    commit_and_push(bob, "results of it")
    assert ran(bob) == ["report", "tune@cb", "tune@rte"]

    before = outputs(ann)
    restore(ann)
    assert ran(ann) == STAGES
    assert outputs(ann) == outputs(bob) != before

    # Both users see both runs, each result once; publishing restored results adds no run.
    count = len(tracked_runs())
    for root in (ann, bob):
        said = ask(root, "publish").splitlines()
        assert sorted(line.split()[0] for line in said[:-1]) == ["absent", *["present"] * 3], said
    assert len(tracked_runs()) == count
    runs = tracked_runs(hers, his)
    assert {run.info.status for run in runs} == {"FINISHED"}
    results = [run.data.tags for run in runs if "gfpet.stage" in run.data.tags]
    made = sorted((tags["gfpet.git.commit"], tags["gfpet.stage"]) for tags in results)
    assert made == sorted([(hers, "prepare"), *[(hers, "tune")] * 2, *[(his, "tune")] * 2])
    wholes = [run for run in runs if "gfpet.stage" not in run.data.tags and run.data.tags["gfpet.family"] == "gpt2"]
    first, second = (run.info.run_id for run in wholes)
    for root in (ann, bob):
        compared = ask(root, "compare", first, second)
        assert hers[:12] in compared
        assert his[:12] in compared
        assert "tune.epochs" in compared


@pytest.mark.slow
@pytest.mark.usefixtures("team_environment")
@pytest.mark.parametrize("remote", ["directory"], indirect=True)
def test_what_is_pushed_is_what_a_commit_makes(remote: Remote, tmp_path: Path) -> None:
    team = make_team(tmp_path / "team", remote[0], **remote[1])
    ann, bob = team.clone("ann"), team.clone("bob")
    commit = change_input(ann, "dirty")
    said = refused(ann, "run", "--pull", "--push", "-S", "tune.epochs=3")
    assert "the working tree differs from its commit (params.yaml)" in said
    assert "--allow-dirty" in said
    assert ran(ann) == []
    assert not Path(remote[0]).exists()

    assert "stages: 4 ran" in gfpet(ann, "run", "--push", "--allow-dirty")
    runs = tracked_runs(commit)
    assert len(runs) == 3 + 2  # results with metrics, and the parent run in each experiment
    assert {run.data.tags["gfpet.git.dirty"] for run in runs} == {"True"}

    # Without a dvc.lock, the run cache restores the results of these parameters.
    git(bob, "pull", "--quiet", "origin", "main")
    ask(bob, "preset", "-S", "tune.epochs=3")
    dvc(bob, "repro", "--pull")
    assert ran(bob) == []
    assert outputs(bob) == outputs(ann)
