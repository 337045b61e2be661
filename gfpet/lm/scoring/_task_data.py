"""One task's prepared examples as tokens, and the task's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gfpet.data.examples import Example, read_examples
from gfpet.lm.families import Template
from gfpet.lm.scoring._encode import EncodedExample, encode
from gfpet.lm.scoring._score import Backbone, predict
from gfpet.lm.scoring._tokens import pad_token


@dataclass(frozen=True)
class Split:
    """Examples with their token rows, in the same order."""

    examples: list[Example]
    encoded: list[EncodedExample]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def cut_share(self) -> float:
        """Share of the examples whose context was cut to fit `max_length`."""
        return sum(example.cut > 0 for example in self.encoded) / max(1, len(self.encoded))

    def first(self, count: int) -> Split:
        """The first `count` examples."""
        return Split(self.examples[:count], self.encoded[:count])

    def part(self, indices: Sequence[int]) -> Split:
        """The examples with these indices, in that order."""
        return Split([self.examples[index] for index in indices], [self.encoded[index] for index in indices])


@dataclass(frozen=True)
class TaskData:
    """One task's splits: `train` for training, `dev` (held out of train) for selection, `eval` for results."""

    task: str
    train: Split
    dev: Split
    eval: Split
    pad: int
    """The padding token."""

    @property
    def cut_shares(self) -> dict[str, float]:
        """By split, the share of examples whose context was cut to fit `max_length`."""
        return {"train": self.train.cut_share, "dev": self.dev.cut_share, "eval": self.eval.cut_share}


def load_task(
    folder: Path, task: str, tokenizer: Any, *, max_length: int, template: Template | None = None
) -> TaskData:
    """Read and tokenise what the stage `prepare` wrote to `folder`.

    Args:
        template: required for an encoder-decoder.

    Raises:
        DataError: a file is missing or broken, or a candidate does not fit in `max_length`.
    """
    splits = {}
    for name in ("train", "dev", "eval"):
        examples = read_examples(folder / f"{name}.jsonl")
        splits[name] = Split(examples, encode(examples, tokenizer, max_length=max_length, template=template))
    return TaskData(task, splits["train"], splits["dev"], splits["eval"], pad_token(tokenizer))


def task_score(task: str, examples: Sequence[Example], choices: Sequence[int]) -> float:
    """The task's score in [0, 1]: the mean of its official metrics."""
    from gfpet.data import score

    return score(task, examples, choices)["score"]


def dev_score(data: TaskData, backbone: Backbone, head: Tensor, *, batch_size: int) -> tuple[float, float]:
    """The task's score and the mean ranking loss on `dev`.

    Args:
        head: the output embedding, `[vocabulary, d]`.
    """
    predictions = predict(data.dev.encoded, backbone, head, batch_size=batch_size, pad=data.pad)
    return task_score(data.task, data.dev.examples, predictions.choices), predictions.loss
