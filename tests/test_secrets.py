"""Passwords in addresses are never printed, logged, or passed to another program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import typer

from flows.cli_errors import errors_as_text
from gfpet.errors import DataError
from gfpet.secrets import without_credentials, without_secrets
from gfpet.tracking import compare_runs, shown_uri
from gfpet.tracking.store import short_error
from tasks.git import GitError, git, reachable_source

SECRET = "pl4nted"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{SECRET}@host:5000/a", "http://***@host:5000/a"),
        (
            f"failed: postgresql+psycopg2://me:{SECRET}@db/runs (down)",
            "failed: postgresql+psycopg2://***@db/runs (down)",
        ),
        (
            f"https://{SECRET}@github.com/a.git and https://b:{SECRET}@c",
            "https://***@github.com/a.git and https://***@c",
        ),
        (f"http://me:{SECRET}@x@host/", "http://***@host/"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("mail me@host, see https://host/a@b", "mail me@host, see https://host/a@b"),
    ],
)
def test_user_and_password_of_an_address_are_replaced(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_an_address_for_others_keeps_what_it_needs() -> None:
    assert without_credentials(f"https://me:{SECRET}@host/a.git") == "https://host/a.git"
    assert without_credentials(f"ssh://git:{SECRET}@host/a.git") == "ssh://git@host/a.git"
    assert without_credentials("git@host:a.git") == "git@host:a.git"


def test_errors_show_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert SECRET not in short_error(ConnectionError(f"http://me:{SECRET}@host refused"))
    with pytest.raises(typer.Exit), errors_as_text():
        raise DataError(f"nothing at http://me:{SECRET}@host/data")
    assert capsys.readouterr().err == "error: nothing at http://***@host/data\n"


def test_the_store_is_shown_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{SECRET}@127.0.0.1:9")
    assert shown_uri(tmp_path) == "http://***@127.0.0.1:9"
    with pytest.raises(DataError, match=r"MLflow at http://\*\*\*@127\.0\.0\.1:9 does not answer") as told:
        compare_runs(tmp_path, ["a", "b"])
    assert SECRET not in str(told.value)


def test_a_clones_origin_goes_to_workers_without_its_token(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "-b", "main", str(tmp_path)], check=True)
    (tmp_path / "file").write_text("x")
    git(tmp_path, "add", "-A")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start")
    git(tmp_path, "remote", "add", "origin", f"https://{SECRET}@127.0.0.1:9/a.git")
    git(tmp_path, "update-ref", "refs/remotes/origin/main", "HEAD")
    assert reachable_source(tmp_path, git(tmp_path, "rev-parse", "HEAD")) == "https://127.0.0.1:9/a.git"
    with pytest.raises(GitError) as told:
        git(tmp_path, "fetch", f"https://{SECRET}@127.0.0.1:9/a.git")
    assert SECRET not in str(told.value)
