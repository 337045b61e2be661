"""A task file as a typed, frozen model. `gfpet.data.catalogue` reads and checks the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

FieldType = Literal["text", "any_text", "index", "integer", "number", "boolean", "label", "choice"]
Nonempty = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    """Base model: forbids unknown keys, is immutable, and takes field descriptions from docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _typed(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


def _named(value: Any) -> Any:
    """A list of metrics as a mapping of each name to itself."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: name for name in value}
    return value


class RowField(_Part):
    """One field (a column) of a row."""

    type: FieldType = "text"
    """`text` must not be empty, `any_text` may be; `index` is an integer from 0; `label` is one of `labels`; `choice`
    is the number of the right candidate, from 0."""
    without_end: Nonempty | None = None
    """Ending to remove, with any white space after it, before the text goes into the template."""
    first_letter: Literal["lower"] | None = None
    """Changes the first letter of the text to lower case."""
    words: Mapping[str, str] | None = None
    """All allowed values of the text, with the replacement of each in the template."""


class Span(_Part):
    """Two integer fields that must be character offsets within a text field; the end is exclusive."""

    start: str
    end: str
    within: str


class Candidates(_Part):
    """Source of a ranking task's candidates: `fields` or `column`."""

    fields: tuple[str, ...] | None = None
    """Columns that hold one candidate each."""
    column: str | None = None
    """A column that holds a list of candidates."""
    template: Nonempty = " {candidate}"
    """Template of one candidate, with the white space between it and the context."""


class Hub(_Part):
    """The task's names in a hub data set of the form of `aps/super_glue`."""

    config: Nonempty
    train: Nonempty
    eval: Nonempty


class Release(_Part):
    """The task's names in each source that `prepare.source` allows."""

    synthetic: Nonempty
    """Task of the synthetic benchmark."""
    folder: Nonempty
    """Folder in the official release; `train` and `eval` are files in it."""
    train: Nonempty
    eval: Nonempty
    hub: Hub


class Files(_Part):
    """Data files of a user's task, relative to the task file: .jsonl, .csv, .tsv or .parquet."""

    train: Nonempty
    eval: Nonempty | None = None
    """None draws the evaluation rows from `train`."""
    eval_part: float | None = Field(default=None, gt=0.0, lt=1.0)
    """The share of `train` to draw; None draws a fifth."""
    seed: int = Field(default=0, ge=0)
    """Seed of that draw."""


class Task(_Part):
    """One task: the source of its rows, the conversion of a row to an example, and the metrics."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """The file's name without `.yaml`; also names folders and stages."""
    version: int = Field(ge=1)
    """Increase it with every change of the examples: results of different versions are not comparable."""
    release: Release | None = None
    data: Files | None = None
    rows: str = "flat"
    """Row format: with `flat`, one row of columns gives one example; see `gfpet.data.formats`."""
    fields: Mapping[str, Annotated[RowField, BeforeValidator(_typed)]] = Field(default_factory=dict)
    """Fields with their types. A field that only other keys name is text."""
    spans: tuple[Span, ...] = ()
    template: Nonempty
    """Template of the context: the text before a candidate."""
    labels: Mapping[str, str] | None = None
    """Label to verbalizer, in the order of the candidates; each verbalizer includes the white space before it."""
    candidates: Candidates | None = None
    label: Nonempty = "label"
    """Column of the right label, or of the right candidate (its text or its number, from 0)."""
    group: Nonempty | None = None
    """Column that groups rows: rows with the same value stay in one split, and metrics and intervals treat them
    together."""
    metrics: Annotated[Mapping[str, str], BeforeValidator(_named), Field(min_length=1)]
    """From a name in the results to a metric of `gfpet.data.metric_registry`; the score is the mean of all."""

    @property
    def ranking(self) -> bool:
        """Whether each example has candidates of its own (COPA, ReCoRD, WSC)."""
        return self.labels is None
