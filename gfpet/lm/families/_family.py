"""What the rest of gfpet knows of a model family: names, and how its stacks of blocks are run.

A family has one stack of blocks (`decoder`) or two (`encoder`, `decoder`). The names of target modules, of spaces and
of module tensors begin with their stack (`encoder.attn.q.A`) if there are two, and without it (`attn.q.A`) if there is
one.

The input embedding of the first stack is a target module of its own, `embeddings`, and counts as a stack of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfpet.errors import ModelError, unknown
from gfpet.lm.families._dims import Dims
from gfpet.lm.families._texts import Template, Texts

STACKS = ("encoder", "decoder")
EMBEDDINGS = "embeddings"
"""The input embedding: its name as a target module, and the stack of one layer that it stands for."""


def stack_of(name: str) -> str:
    """The stack that a target, space, attention or tensor belongs to, from its name alone.

    >>> stack_of("encoder.attn.q.A"), stack_of("attn.q.A"), stack_of("embeddings.prompt")
    ('encoder', 'decoder', 'embeddings')
    """
    first = name.partition(".")[0]
    return first if first in (*STACKS, EMBEDDINGS) else "decoder"


@dataclass(frozen=True)
class TargetModule:
    """A linear map in every block, or one of the equal parts of a fused map's output."""

    path: str
    """Attribute path from the block to the map."""
    reads: str
    """Axis that the map's input lives on: `residual`, `inner` (query heads), `kv` (key/value heads), `ffn`, or one of
    another attention's heads: `cross_inner`, `cross_kv`."""
    writes: str
    """Axis that the map's output lives on."""
    part: int = 0
    """Which part of the output, counted from 0."""
    parts: int = 1
    """Into how many equal parts the output is cut (3 for a fused query-key-value map)."""
    positions: str | None = None
    """The stack whose positions its activations have, where it is not its own (keys and values of cross-attention)."""


@dataclass(frozen=True)
class Attention:
    """An attention in every block."""

    path: str
    """Attribute path from the block to it."""
    prefix_bias: Callable[[nn.Module, int, int], Tensor] | None = None
    """From the first block's attention, the query length and the prefix length: the position bias `[1, heads, query,
    prefix]` of a prefix. None: a prefix has none."""


@dataclass(frozen=True)
class Stack:
    """A stack of like blocks."""

    name: str
    """`encoder` or `decoder`."""
    blocks: str
    """Attribute path from the model to its list of blocks."""
    attentions: Mapping[str, Attention]
    """By their standard names: `attn`, and `cross` where there is cross-attention."""
    target_modules: Mapping[str, TargetModule]
    """By their standard names (docs/design.md), without the stack."""
    axes: Mapping[str, tuple[str, ...]]
    """Axes of each weight of a block, by its name in the block: an axis of `TargetModule`, `heads` (one value a query
    head), or `3*inner` and the like for a fused map; `-` is an axis that stays whole."""
    shared_heads: bool = False
    """The heads of `attn` are one set for all blocks (a position bias that all of them use)."""


@dataclass(frozen=True)
class Family:
    """Where things are in the Hugging Face models of one family."""

    name: str
    model_types: tuple[str, ...]
    """What `config.model_type` of its checkpoints may be."""
    loader: Literal["AutoModelForCausalLM", "AutoModelForSeq2SeqLM"]
    """Class of transformers that loads its checkpoints."""
    stacks: tuple[Stack, ...]
    """In the order in which they run."""
    run: Callable[[nn.Module, Texts], Tensor]
    """The forward pass up to the head: the decoder's last hidden states `[rows, length, d]`, as the head reads them."""
    outer_axes: Mapping[str, tuple[str, ...]]
    """Axes of the weights outside of blocks, by their names in the model."""
    embeddings: str
    """Attribute path of the first stack's input embedding. The part that holds it takes `input_ids` or
    `inputs_embeds`."""
    dropouts: tuple[str, ...]
    """Names of the dropout probabilities in the configuration."""
    dims: Callable[[Any], Dims]
    """Sizes from a configuration."""
    resized: Callable[[Any, Dims], nn.Module]
    """A new, uninitialised model like the configuration's, with other sizes."""
    thinned: Callable[[Any, Mapping[str, Sequence[int]]], Any] | None = None
    """A configuration like the given one, of a model with only these blocks, by stack; None: not to be had."""
    positioned: str | None = None
    """Attribute path of the part that takes `position_ids`, which a prefix shifts; None: positions are relative."""
    template: Callable[[Any, Any], Template] | None = None
    """From configuration and tokenizer, how an encoder-decoder reads an example; None for a decoder alone."""
    variant: Callable[[Any], Family] | None = field(default=None, repr=False)
    """From a configuration, the tables that are true of its models, where the family's models differ in them."""

    def for_config(self, config: Any) -> Family:
        """The family as it is for models of this configuration."""
        return self.variant(config) if self.variant else self

    def stack(self, name: str) -> Stack:
        """The stack of that name."""
        return next(stack for stack in self.stacks if stack.name == name)

    @cached_property
    def target_modules(self) -> Mapping[str, TargetModule]:
        """All target_modules by their full names."""
        return {
            self._full(stack, name): target for stack in self.stacks for name, target in stack.target_modules.items()
        }

    @cached_property
    def attentions(self) -> Mapping[str, Attention]:
        """All attentions by their full names."""
        return {self._full(stack, name): each for stack in self.stacks for name, each in stack.attentions.items()}

    def _full(self, stack: Stack, name: str) -> str:
        return f"{stack.name}.{name}" if len(self.stacks) > 1 else name

    def target(self, name: str) -> TargetModule:
        """The target of that full name.

        Raises:
            ModelError: this family has no such target; names the nearest.
        """
        if name == EMBEDDINGS:
            return TargetModule("", reads="-", writes="residual")
        if name not in self.target_modules:
            raise ModelError(unknown(f"target of family {self.name}", name, self.target_modules))
        return self.target_modules[name]

    def expanded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Full names of target modules: one without its stack stands for that of every stack that has it.

        Raises:
            ModelError: no stack has such a target; names the nearest.
        """
        found: dict[str, None] = {}
        for name in names:
            full = [self._full(stack, name) for stack in self.stacks if name in stack.target_modules]
            if not full and name not in self.target_modules:
                local = {target for stack in self.stacks for target in stack.target_modules}
                raise ModelError(unknown(f"target of family {self.name}", name, {*self.target_modules, *local}))
            found |= dict.fromkeys(full or [name])
        return tuple(found)

    def text_of(self, space: str) -> str:
        """The stack whose positions the activations of a space (`<target>.<in|out>`, `<stack>.residual`) have."""
        if stack_of(space) == EMBEDDINGS:
            return self.stacks[0].name
        target = self.target_modules.get(space.rpartition(".")[0])
        return target.positions if target and target.positions else stack_of(space)

    def blocks_of(self, model: nn.Module, stack: str) -> list[nn.Module]:
        """The blocks of a stack, first to last; of the embeddings, the input embedding itself."""
        if stack == EMBEDDINGS:
            return [model.get_submodule(self.embeddings)]
        return list(model.get_submodule(self.stack(stack).blocks).children())

    def depths_of(self, model: nn.Module) -> dict[str, int]:
        """Number of blocks of each stack; the embeddings are not among them."""
        return {stack.name: len(self.blocks_of(model, stack.name)) for stack in self.stacks}

    def attentions_of(self, model: nn.Module, name: str) -> list[nn.Module]:
        """The attention of that full name, of each block."""
        path = self.attentions[name].path
        return [block.get_submodule(path) for block in self.blocks_of(model, stack_of(name))]

    def linear_at(self, block: nn.Module, name: str) -> nn.Module:
        """The linear map behind a target of a block."""
        return block.get_submodule(self.target(name).path)

    def linears_of(self, model: nn.Module, name: str) -> list[nn.Module]:
        """The linear map behind a target, of each block."""
        path = self.target(name).path
        return [block.get_submodule(path) for block in self.blocks_of(model, stack_of(name))]

    def target_widths(self, model: nn.Module, name: str) -> tuple[int, int]:
        """`(d_in, d_out)` of a target, the same in every block."""
        target = self.target(name)
        linear = self.linears_of(model, name)[0]
        if isinstance(linear, nn.Linear):  # its weight may be packed, in few bits
            return linear.in_features, linear.out_features // target.parts
        weight = self.weight_in_out(linear)
        return weight.shape[0], weight.shape[1] // target.parts

    @staticmethod
    def weight_in_out(linear: nn.Module) -> Tensor:
        """The weight `[d_in, d_out]` of a linear map, whichever way its class stores it."""
        weight = linear.get_parameter("weight")
        return weight.T if isinstance(linear, nn.Linear) else weight


def run_decoder(backbone: str) -> Callable[[nn.Module, Texts], Tensor]:
    """`Family.run` of a causal decoder with explicit positions; `backbone`: attribute of the model without its head."""

    def run(model: nn.Module, texts: Texts) -> Tensor:
        ids = texts["decoder"].ids
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        output = model.get_submodule(backbone)(input_ids=ids, position_ids=positions, use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    return run
