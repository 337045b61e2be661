"""Shared by the stages of a whole family: text of all tasks, and the source blocks of a derived small model."""

from __future__ import annotations

import json

from gfpet.config import DERIVE, Params
from gfpet.data.examples import Example, read_examples
from gfpet.errors import ConfigError
from gfpet.method.plug import LayerAssignment
from gfpet.stages._inputs import OUTPUTS, derived_folder


def derived_pairs(family: str) -> LayerAssignment:
    """The layer assignment `derived`: each block of the small model with its source block in the large one.

    Raises:
        ConfigError: the small model was not derived.
    """
    about = json.loads((derived_folder(family) / "source.json").read_text(encoding="utf-8"))
    if not about["derived"]:
        raise ConfigError(
            f"align.layer_assignment is 'derived', but models.{family}.small.path is {about['path']}. Set it to "
            f"'{DERIVE}', or align.layer_assignment to stack, interpolate, depth or cka."
        )
    return {stack: tuple((block, number) for number, block in enumerate(kept)) for stack, kept in about["kept"].items()}


def mixed_examples(params: Params, count: int) -> list[Example]:
    """The first `count` training examples, round-robin over the tasks."""
    by_task = [read_examples(OUTPUTS / "prepare" / task / "train.jsonl") for task in params.tasks]
    longest = max(len(rows) for rows in by_task)
    return [rows[number] for number in range(longest) for rows in by_task if number < len(rows)][:count]
