"""Both models with the maps between them, and a task's text for both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch

from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule
from gfpet.lm.scoring import Batch, TaskData, batches
from gfpet.method.align import read_through
from gfpet.method.plug import LayerAssignment, Projection, plugged, random_like
from gfpet.similarity._effects import Effects, effects, residuals
from gfpet.similarity._grid import Block, Cell, numbered

_BATCH = 16
# Tokens to compare effects on; their effects are held for every block of both models.
_TOKENS = 2000


@dataclass(frozen=True)
class ModelPair:
    """The small model S and the large model L, and the maps between them."""

    small: LoadedModel
    large: LoadedModel
    frozen: FrozenModel
    """L; it only runs forward."""
    maps: Projection
    pairs: LayerAssignment

    @property
    def cells(self) -> list[Cell]:
        """The layer assignment's pairs as (block of S, block of L)."""
        ours, theirs = self.blocks
        return [
            (ours[stack, of_small], theirs[stack, of_large])
            for stack, pairs in self.pairs.items()
            for of_large, of_small in pairs
        ]

    @property
    def every_cell(self) -> list[Cell]:
        """All pairs (block of S, block of L) within a stack; stacks read different tokens, so they do not mix."""
        ours, theirs = self.blocks
        return [(ours[one], theirs[other]) for one, other in product(ours, theirs) if one[0] == other[0]]

    @cached_property
    def blocks(self) -> tuple[dict[Block, int], dict[Block, int]]:
        """The blocks of S and of L with their numbers (`numbered`)."""
        ours, theirs = (numbered(each.family.depths_of(each.model)) for each in (self.small, self.large))
        return ours, theirs

    def plugged(self, module: PetModule, *, random: int | None = None) -> PetModule:
        """S's module in L's spaces.

        Args:
            random: seed of random maps to plug through; None uses the fitted maps.
        """
        maps = self.maps.for_module(module)
        if random is not None:
            maps = random_like(maps, torch.Generator().manual_seed(random))
        maps = maps.to(self.small.device, torch.float32)
        return plugged(module, maps, self.pairs, divide_by_copies=False)


class TaskText:
    """The text of a task's first training examples, and both models' residual streams without a module."""

    def __init__(self, models: ModelPair, data: TaskData, *, examples: int, max_length: int) -> None:
        self._models, self.data = models, data
        small = models.small
        rows = read_through(
            data.train.examples[:examples], small.tokenizer, max_length=max_length, template=small.template
        )
        read: Iterable[Batch] = (each.to(small.device) for _, each in batches(rows, size=_BATCH, pad=data.pad))
        self._batches = list(read)
        with torch.inference_mode():
            self._small = residuals(small.model, small.family, self._batches, tokens=_TOKENS)
        with models.frozen.forward_only() as model:
            self._large = residuals(model, models.large.family, self._batches, tokens=_TOKENS)

    @property
    def size(self) -> int:
        """Number of tokens, with padding."""
        return sum(each.size for each in self._batches)

    def in_small(self, module: PetModule) -> Effects:
        """Effects of a module of S on S."""
        small = self._models.small
        with torch.inference_mode():
            return effects(small.model, small.family, module, self._batches, self._small, tokens=_TOKENS)

    def in_large(self, module: PetModule) -> Effects:
        """Effects of a module of L on L."""
        with self._models.frozen.forward_only() as model:
            return effects(model, self._models.large.family, module, self._batches, self._large, tokens=_TOKENS)
