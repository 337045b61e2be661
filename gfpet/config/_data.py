"""Sections `world` and `prepare`: where examples come from."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from gfpet.config._section import NonNegative, Positive, Section


class Synthetic(Section):
    """The generated language and benchmark behind the embedded models."""

    seed: NonNegative = 0
    """Draws the task rows. The language and its facts are fixed: the committed checkpoints know them."""


class Prepare(Section):
    """Stage `prepare`: rows of SuperGLUE to examples."""

    source: Literal["embedded", "directory", "hub"] = "embedded"
    """`embedded`: generated here; `directory`: the official release's files; `hub`: Hugging Face datasets."""
    directory: str | None = None
    """Folder with `<Task>/{train,val}.jsonl`; only for `source: directory`."""
    hub_id: str = "aps/super_glue"
    """Data set on the hub; only for `source: hub`."""
    hub_revision: str = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
    """Commit of the data set; a branch name would let results change by themselves."""
    train_size: Positive | None = 1200
    """Examples to train with, a seeded sample; null takes all."""
    dev_size: Positive = 200
    """Examples held out of train: early stopping and every choice is made on these, never on eval."""
    eval_size: Positive | None = 500
    """Examples of the evaluation split, a seeded sample; null takes all."""
    seed: NonNegative = 0
    """Draws the samples and the held-out slice."""

    @model_validator(mode="after")
    def _directory_is_given(self) -> Prepare:
        if self.source == "directory" and not self.directory:
            raise ValueError("directory is null, but source is 'directory': name the SuperGLUE folder")
        return self
