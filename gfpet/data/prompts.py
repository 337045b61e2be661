"""`prompts.yaml` as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gfpet.data.benchmark import TASKS
from gfpet.errors import DataError

PROMPTS_FILE = Path(__file__).with_name("prompts.yaml")


class Prompt(BaseModel):
    """How one task's rows become contexts and candidates."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    version: int = Field(ge=1)
    """Raised with every change of the strings below."""
    prepared: str
    """What happens to a row's fields before they are put in; for the reader."""
    context: str
    """Template (`str.format`) of what the model reads."""
    verbalizers: dict[str, str] | None = None
    """Class to candidate, in the order of the candidates."""
    candidate: str | None = None
    """Template of one candidate of a ranking task."""
    connectives: dict[str, str] | None = None
    """COPA: what joins premise and choice, by the row's `question`."""

    @model_validator(mode="after")
    def _one_form(self) -> Prompt:
        if (self.verbalizers is None) == (self.candidate is None):
            raise ValueError("give either 'verbalizers' or 'candidate'")
        return self


def load_prompts(path: Path = PROMPTS_FILE) -> Mapping[str, Prompt]:
    """Read and check a prompts file: one entry for each task, with the task's classes in their order.

    Raises:
        DataError: the file does not fit; names every key at fault.
    """
    try:
        prompts = TypeAdapter(dict[str, Prompt]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a prompts file: {error}") from error
    if prompts.keys() != TASKS.keys():
        differ = sorted(prompts.keys() ^ TASKS.keys())
        raise DataError(f"{path}: entries must be exactly the tasks {', '.join(TASKS)}; missing or unknown: {differ}.")
    for task, prompt in prompts.items():
        classes = tuple(prompt.verbalizers or ())
        if classes != TASKS[task].classes:
            raise DataError(f"{path}: {task}.verbalizers are {list(classes)}, but must be {list(TASKS[task].classes)}.")
    return MappingProxyType(prompts)


@cache
def prompts() -> Mapping[str, Prompt]:
    """The shipped prompts."""
    return load_prompts()
