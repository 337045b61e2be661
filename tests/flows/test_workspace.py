from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gfpet.errors import ConfigError
from tasks.workspace import allow_missing_git, find_root, one_run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: echo a > a.txt, outs: [a.txt]}}\n")
    (tmp_path / "params.yaml").write_text("{}\n")
    return tmp_path


def dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True, check=False
    )


def test_dvc_runs_in_an_unpacked_archive(archive: Path) -> None:
    assert dvc(archive, "repro").returncode != 0
    assert allow_missing_git(archive)
    done = dvc(archive, "repro")
    assert done.returncode == 0, done.stderr
    assert (archive / "a.txt").read_text() == "a\n"
    assert (archive / ".dvc" / "config").read_text() == "[core]\n    analytics = false\n"
    assert not allow_missing_git(archive)


def test_git_is_used_as_soon_as_it_is_there(archive: Path) -> None:
    allow_missing_git(archive)
    subprocess.run(["git", "init", "--quiet"], cwd=archive, check=True)
    assert allow_missing_git(archive)
    assert "no_scm" not in (archive / ".dvc" / "config.local").read_text()
    assert not allow_missing_git(archive)


def test_the_root_is_found_from_below(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (archive / "outputs" / "tune").mkdir(parents=True)
    assert find_root(archive / "outputs" / "tune") == archive.resolve()
    with pytest.raises(ConfigError, match=r"no dvc\.yaml"):
        find_root(tmp_path_factory.mktemp("elsewhere"))


def test_one_run_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    second = (
        "import sys; from pathlib import Path; from gfpet.errors import ConfigError\n"
        "from tasks.workspace import one_run\n"
        "try:\n    with one_run(Path(sys.argv[1])): print('ran')\nexcept ConfigError as error: print(error)"
    )

    def other() -> str:
        command = [sys.executable, "-c", second, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    with one_run(tmp_path):
        assert f"another run works in {tmp_path} (process {os.getpid()})" in other()
    assert other() == "ran\n"
