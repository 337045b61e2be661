"""Base class and field types of the sections of `params.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gfpet.config._tasks import task_names
from gfpet.errors import nearest
from gfpet.lm.registry import FAMILY_NAMES, KIND_NAMES, TUNING_METHODS

PROJECT = "project"
"""Key of the validation context: the project's folder, whose own tasks are allowed too; by default the current one."""


def _task(value: object, info: Any) -> object:
    allowed = task_names((info.context or {}).get(PROJECT, Path()))
    if value in allowed:
        return value
    close = nearest(value, allowed) if isinstance(value, str) else None
    hint = f"; did you mean '{close}'?" if close else ""
    raise ValueError(f"got {value!r}; allowed: {', '.join(allowed)}{hint}")


Task = Annotated[str, BeforeValidator(_task)]
"""Name of a shipped task or of one of the project's own."""
if TYPE_CHECKING:
    # The names come from the registry at run time; the type checker cannot know them.
    Kind = str
    FamilyName = str
    TuningMethod = str
else:
    Kind = Literal[KIND_NAMES]
    FamilyName = Literal[FAMILY_NAMES]
    TuningMethod = Literal[TUNING_METHODS]
Dtype = Literal["float32", "bfloat16", "float16"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[int, Field(ge=0)]
TargetModule = Literal[
    "attn.q", "attn.k", "attn.v", "attn.o", "mlp.up", "mlp.gate", "mlp.down", "cross.q", "cross.k", "cross.v", "cross.o"
]

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"names something twice: {list(values)}")
    return values


def _not_empty(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("is empty: name at least one")
    return values


Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct)]
"""A list without repeats; it may be empty."""
Chosen = Annotated[tuple[T, ...], AfterValidator(_not_empty), AfterValidator(_distinct)]
"""A list without repeats that names at least one."""


def one_of(allowed: Callable[[], Iterable[str]]) -> AfterValidator:
    """A validator that accepts only names of a registry.

    Args:
        allowed: returns the names; called at each check, since a registry may grow.
    """

    def check(name: str) -> str:
        names = list(allowed())
        if name in names:
            return name
        close = nearest(name, names)
        hint = f"; did you mean '{close}'?" if close else ""
        raise ValueError(f"got '{name}'; allowed: {', '.join(names)}{hint}")

    return AfterValidator(check)


class Section(BaseModel):
    """A section of `params.yaml`: unknown keys are errors, values are immutable, docstrings describe fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
