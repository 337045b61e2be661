"""Resolves a model's `path`: a folder, a GGUF file, or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfpet.errors import ModelError

_GGUF = ".gguf"


@dataclass(frozen=True)
class Source:
    """Where transformers finds a model."""

    name: str
    """Path, and revision if there is one; for messages."""
    where: str
    """Folder or hub id."""
    revision: str | None
    gguf: str | None
    """Name of the GGUF file in the folder; None if the weights are safetensors."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for every `from_pretrained`; a checkpoint's own code never runs."""
        given: dict[str, Any] = {"revision": self.revision, "trust_remote_code": False}
        return given | ({"gguf_file": self.gguf} if self.gguf else {})


def find_source(path: str, revision: str | None) -> Source:
    """Decide which of the three a path is, and check that it exists.

    Raises:
        ModelError: no such file or folder, or a hub id without a revision.
    """
    if path.startswith("~"):
        path = str(Path(path).expanduser())
    place = Path(path)
    if path.lower().endswith(_GGUF):
        if not place.is_file():
            raise ModelError(
                f"no GGUF file at {path}{_neighbours(place.parent)} Put it there, or name another one in "
                "models.<family>.<size>.path."
            )
        return Source(path, str(place.parent), None, place.name)
    if place.is_dir():
        if not (place / "config.json").is_file():
            raise ModelError(
                f"no checkpoint in {path}: a folder with config.json, model.safetensors and tokenizer.json is "
                f"expected there{_neighbours(place)}"
            )
        return Source(path if revision is None else f"{path}@{revision}", path, revision, None)
    if path.startswith((".", "/", "~")) or place.parts[:1] == ("checkpoints",):
        raise ModelError(
            f"no checkpoint at {path}: a folder with config.json and model.safetensors, or a file that ends in .gguf, "
            "is expected there."
        )
    if revision is None:
        raise ModelError(
            f"no folder {path}, so it is a hub id, and needs a revision (models.<family>.<size>.revision): "
            "without one, results change when the hub does."
        )
    return Source(f"{path}@{revision}", path, revision, None)


def _neighbours(folder: Path) -> str:
    """What the folder holds instead; ends a sentence."""
    if not folder.is_dir():
        return f"; there is no folder {folder} either."
    found = sorted(each.name for each in folder.iterdir())
    return f"; {folder} holds {', '.join(found[:8])}{', ...' if len(found) > 8 else ''}." if found else "; it is empty."
