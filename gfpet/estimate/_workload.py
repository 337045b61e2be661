"""The inputs of an estimate: models made from a shape without a checkpoint, and examples of the largest length."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfpet.config import Params
from gfpet.data.examples import Example
from gfpet.estimate._fake import fake_tensors
from gfpet.lm.families import Family, find_family
from gfpet.lm.models import LoadedModel
from gfpet.lm.scoring import EncodedExample, Row, Split, TaskData
from gfpet.method.activation_cache import MakeRowStore, MappedFile
from gfpet.method.prune import Bridge, Importance, StackImportance, choose, cut, reduced_dims

_TASK = "rte"
_ANSWERS = ("Yes", "No")
# An encoder-decoder's decoder reads the template's start (two tokens in T5) and predicts one candidate token.
_DECODER_START = (0, 0)
_TOKENS = 32


@dataclass(frozen=True)
class Shape:
    """A model's sizes, without its weights."""

    name: str
    family: str
    config: Any
    """Configuration of transformers."""


class _Sizes:
    """Takes the place of the cache's file: discards values, and returns empty tensors of the right size."""

    def __init__(self, _: Path, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
        self._dtype, self._shape = dtype, shape

    def put(self, start: int, values: Tensor) -> None:
        """Discard the values."""

    def take(self, start: int, stop: int) -> Tensor:
        """An empty tensor of the right size."""
        return torch.empty(stop - start, *self._shape[1:], dtype=self._dtype)


@dataclass(frozen=True)
class Workload:
    """Batches of `batch` rows of `length` tokens each, with two one-token candidates (a verbalizer's)."""

    batch: int
    length: int
    device: torch.device
    real: Path | None = None
    """None runs the steps under fake tensors. A folder runs them on real tensors (random weights), to measure them, and
    holds the activation cache."""

    def tensors(self) -> AbstractContextManager[None]:
        """The context to run the steps in."""
        return fake_tensors() if self.real is None else nullcontext()

    def rows(self) -> MakeRowStore:
        """The row store of the activation cache."""
        return _Sizes if self.real is None else MappedFile

    def split(self, family: Family, batches: int, batch: int | None = None) -> Split:
        """Examples for some batches, of `batch` rows each if given."""
        count, answers = batches * (batch or self.batch), ((0,), (1,))
        text = tuple(
            place % _TOKENS for place in range(self.length)
        )  # varied tokens, so that maps can be fitted to real activations
        examples = [Example(f"sizes/{n}", "", _ANSWERS, _ANSWERS, (n % 2,)) for n in range(count)]
        if len(family.stacks) > 1:
            row = Row(_DECODER_START, answers, len(_DECODER_START) - 1, text)
        else:
            row = Row(text, answers, self.length - 1)
        return Split(examples, [EncodedExample((row,), n, (n % 2,), 2) for n in range(count)])

    def task(self, family: Family, batch: int | None = None) -> TaskData:
        """A task with two training batches; the second step has the optimizer's state from the first."""
        one = self.split(family, 1, batch)
        return TaskData(_TASK, self.split(family, 2, batch), one, one, pad=0)


def shaped(shape: Shape, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    """A model of a shape, in the state that `load_pretrained` returns: frozen, in evaluation mode, without dropout."""
    import transformers

    config = copy.deepcopy(shape.config)
    family = find_family(shape.family).for_config(config)
    for dropout in family.dropouts:
        setattr(config, dropout, 0.0)
    make: Any = getattr(transformers, family.loader).from_config
    with device:  # fake weights cannot be moved afterwards
        model = make(config, dtype=dtype, attn_implementation="sdpa")
    return LoadedModel(model.eval().requires_grad_(False), family, None, shape.name)


def parameters_of(shape: Shape) -> int:
    """Number of parameters; tied ones count once."""
    import transformers

    make: Any = getattr(transformers, find_family(shape.family).loader).from_config
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in make(copy.deepcopy(shape.config)).parameters())


def make_bridge(large: LoadedModel, params: Params) -> Bridge:
    """The Bridge as stage `bridge` loads it. It keeps the right number of coordinates; which ones does not matter."""
    dims = large.family.dims(large.model.config)
    less = reduced_dims(dims, params.prune.factor, params.prune.reduction)
    alike = Importance(
        torch.zeros(dims.width),
        {
            stack.name: StackImportance(
                heads := torch.zeros(dims.stacks[stack.name].layers, dims.stacks[stack.name].kv_heads),
                torch.zeros(dims.stacks[stack.name].layers, dims.stacks[stack.name].ffn),
                heads if "cross" in stack.attentions else None,
            )
            for stack in large.family.stacks
        },
    )
    kept = choose(alike, less, large.family)
    return Bridge(cut(large.model, large.family, less, kept), less, kept)
