"""Finds the project's folder and prepares it for DVC."""

from __future__ import annotations

from pathlib import Path

from gfpet.errors import ConfigError


def find_root(start: Path) -> Path:
    """The project's folder: the nearest one at or above `start` that holds `dvc.yaml` and `params.yaml`.

    Raises:
        ConfigError: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise ConfigError(f"no dvc.yaml with a params.yaml at or above {start}; change into the project's folder.")


def allow_missing_git(root: Path) -> bool:
    """Let DVC work in a folder without Git, such as an unpacked archive.

    DVC refuses to start without Git unless `core.no_scm` is set. This sets it in `.dvc/config.local`, which is not
    committed, and removes it once `.git` exists.

    Returns:
        Whether the setting was changed.
    """
    from dvc.config import Config

    without_git = not (root / ".git").exists()
    config = Config(str(root / ".dvc"))
    if bool(config.load_one("local").get("core", {}).get("no_scm", False)) == without_git:
        return False
    with config.edit("local") as local:
        core = local.setdefault("core", {})
        if without_git:
            core["no_scm"] = True
        else:
            core.pop("no_scm", None)
    return True
