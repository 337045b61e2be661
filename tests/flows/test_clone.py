from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.clone import KEPT, claimed_clone
from tasks.git import GitError, changed_files, head, reachable_source, require_clean


def git(root: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "gfpet").mkdir(parents=True)
    (root / "gfpet" / "code.py").write_text("a = 1\n")
    (root / "params.yaml").write_text("seeds: [0]\n")
    (root / "dvc.lock").write_text("{}\n")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "-A")
    git(root, "commit", "--quiet", "-m", "one")
    return root


def test_what_counts_as_a_change(project: Path) -> None:
    require_clean(project, "this is why")
    (project / "dvc.lock").write_text("{a: 1}\n")
    (project / "notes.txt").write_text("mine")
    assert changed_files(project) == []
    (project / "gfpet" / "new.py").write_text("b = 2\n")
    (project / "params.yaml").write_text("seeds: [1]\n")
    assert sorted(changed_files(project)) == ["gfpet/new.py", "params.yaml"]
    assert changed_files(project, but=["params.yaml"]) == ["gfpet/new.py"]
    with pytest.raises(GitError, match=r"params\.yaml, gfpet/new\.py.*this is why.*--allow-dirty"):
        require_clean(project, "this is why", hint=", or say --allow-dirty")


def test_a_folder_without_git_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"no Git repository.*git init"):
        head(tmp_path)


def test_a_clone_is_used_by_one_at_a_time(project: Path, tmp_path: Path) -> None:
    home, commit = tmp_path / "home", head(project)
    with claimed_clone(home, str(project), commit, "seeds: [1]\n") as first:
        assert (first / "params.yaml").read_text() == "seeds: [1]\n"
        assert git(first, "rev-parse", "HEAD") == commit
        with claimed_clone(home, str(project), commit, "seeds: [1]\n", "tune/cb") as second:
            assert second != first
            (second / ".work" / "tune" / "cb").mkdir(parents=True)
    with claimed_clone(home, str(project), commit, "seeds: [1]\n") as again:
        assert again == first
    with claimed_clone(home, str(project), commit, "seeds: [1]\n", "tune/cb") as resumed:
        assert resumed == second
    with claimed_clone(home, str(project), commit, "seeds: [2]\n") as other:
        assert other.parent != first.parent


def test_a_commit_that_is_not_there_is_told(project: Path, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="fetch"), claimed_clone(tmp_path / "home", str(project), "0" * 40, ""):
        pass


def test_old_clones_go(project: Path, tmp_path: Path) -> None:
    home, commit = tmp_path / "home", head(project)
    with claimed_clone(home, str(project), commit, "in use") as used:
        for number in range(KEPT + 2):
            with claimed_clone(home, str(project), commit, str(number)):
                pass
        assert used.is_dir()
        assert len(list(home.iterdir())) <= KEPT + 1


def test_workers_fetch_from_origin_where_it_has_the_commit(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--bare", str(project), "origin.git")
    git(tmp_path, "clone", "--quiet", "origin.git", "clone")
    clone = tmp_path / "clone"
    assert reachable_source(clone, head(clone)) == str(tmp_path / "origin.git")
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "only here")
    assert reachable_source(clone, head(clone)) == str(clone)
