"""Sections `synthetic` and `prepare`: where examples come from."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from gfpet.config._section import NonNegative, Positive, Section


class Synthetic(Section):
    """The synthetic benchmark, for which the embedded models are pretrained."""

    seed: NonNegative = 0
    """Seed of the task rows. The language and its facts stay fixed, since the committed checkpoints know them."""


class Prepare(Section):
    """Stage `prepare`: turns rows of SuperGLUE into examples."""

    source: Literal["embedded", "directory", "hub"] = "embedded"
    """`embedded`: the synthetic benchmark; `directory`: files of the official release; `hub`: Hugging Face datasets."""
    directory: str | None = None
    """Folder with `<Task>/{train,val}.jsonl`; only for `source: directory`."""
    hub_id: str = "aps/super_glue"
    """Data set on the hub; only for `source: hub`."""
    hub_revision: str = "3de24cf8022e94f4ee4b9d55a6f539891524d646"
    """Commit of the data set, not a branch: a branch moves, and results with it."""
    train_size: Positive | None = 1200
    """Training examples, a seeded sample; null takes all."""
    dev_size: Positive = 200
    """Examples held out of train, for early stopping and every selection; eval is used for neither."""
    eval_size: Positive | None = 500
    """Examples of the evaluation split, a seeded sample; null takes all."""
    seed: NonNegative = 0
    """Seed of the samples and of the held-out examples."""

    @model_validator(mode="after")
    def _directory_is_given(self) -> Prepare:
        if self.source == "directory" and not self.directory:
            raise ValueError("directory is null, but source is 'directory': name the SuperGLUE folder")
        return self
