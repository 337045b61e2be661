"""A task file as one typed, frozen value. `gfpet.data.catalogue` reads and checks the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

FieldType = Literal["text", "any_text", "index", "integer", "number", "boolean", "label", "choice"]
Nonempty = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    """Unknown keys are errors, values are immutable, docstrings describe fields."""

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
    """`text` is not empty, `any_text` may be; `index` counts from 0; `label` is one of `labels`; `choice` is the
    number of the right candidate, from 0."""
    without_end: Nonempty | None = None
    """Ending that a text loses, with white space behind it, before it is put into the template."""
    first_letter: Literal["lower"] | None = None
    """Turns a text's first letter to lower case."""
    words: Mapping[str, str] | None = None
    """All allowed values of the text, and what stands for each in the template."""


class Span(_Part):
    """Two integer fields that must be offsets of characters within a text field; the end is exclusive."""

    start: str
    end: str
    within: str


class Candidates(_Part):
    """Where the candidates of a ranking task come from."""

    fields: tuple[str, ...] | None = None
    """Columns that hold one candidate each."""
    column: str | None = None
    """A column that holds a list of candidates."""
    template: Nonempty = " {candidate}"
    """One candidate, with the white space that parts it from the context."""


class Hub(_Part):
    """The task in a data set of the form of `aps/super_glue` on the Hugging Face hub."""

    config: Nonempty
    train: Nonempty
    eval: Nonempty


class Release(_Part):
    """The task's name in each of the sources that `prepare.source` may name."""

    synthetic: Nonempty
    """Task of the generated benchmark."""
    folder: Nonempty
    """Folder of the official release, and in it the files of the splits."""
    train: Nonempty
    eval: Nonempty
    hub: Hub


class Files(_Part):
    """Data files of a task of one's own, relative to the task file: .jsonl, .csv, .tsv or .parquet."""

    train: Nonempty
    eval: Nonempty | None = None
    """None draws a part of the rows of `train`."""
    eval_part: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Which part; None draws a fifth."""
    seed: int = Field(default=0, ge=0)
    """Draws it."""


class Task(_Part):
    """One task: where its rows are, how a row becomes an example, and what is measured."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """The file's name without `.yaml`; also the name of folders and of stages."""
    version: int = Field(ge=1)
    """Raised with every change that makes other examples: results of two versions are not comparable."""
    release: Release | None = None
    data: Files | None = None
    rows: str = "flat"
    """Row format: `flat` is one row of columns to one example; see `gfpet.data.formats`."""
    fields: Mapping[str, Annotated[RowField, BeforeValidator(_typed)]] = Field(default_factory=dict)
    """Fields with their types. A field that is named elsewhere in the file, but not here, is text."""
    spans: tuple[Span, ...] = ()
    template: Nonempty
    """The context: what the model reads before a candidate."""
    labels: Mapping[str, str] | None = None
    """Label to verbalizer, in the order of the candidates, each with the white space before it."""
    candidates: Candidates | None = None
    label: Nonempty = "label"
    """Column of the right label, or of the right candidate (its text or its number, from 0)."""
    group: Nonempty | None = None
    """Column: rows of one value stay in one split, and metrics and intervals look at them together."""
    metrics: Annotated[Mapping[str, str], BeforeValidator(_named), Field(min_length=1)]
    """Name in the results to metric of `gfpet.data.metric_registry`; the score is the mean of all."""

    @property
    def ranking(self) -> bool:
        """Whether each example has candidates of its own (COPA, ReCoRD, WSC)."""
        return self.labels is None
