"""The interface of a model family: attribute paths, axes and the forward pass.

A family has one stack of blocks (`decoder`) or two (`encoder`, `decoder`). With two, names of target modules, spaces
and module tensors begin with the stack (`encoder.attn.q.A`); with one they do not (`attn.q.A`).

The input embedding of the first stack is also a target module, `embeddings`, and counts as a stack of one layer.
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
"""Name of the input embedding, as a target module and as a stack of one layer."""


def stack_of(name: str) -> str:
    """The stack of a target, space, attention or tensor, from its name.

    >>> stack_of("encoder.attn.q.A"), stack_of("attn.q.A"), stack_of("embeddings.prompt")
    ('encoder', 'decoder', 'embeddings')
    """
    first = name.partition(".")[0]
    return first if first in (*STACKS, EMBEDDINGS) else "decoder"


@dataclass(frozen=True)
class TargetModule:
    """A linear layer in every block, or one of the equal parts of a fused layer's output."""

    path: str
    """Attribute path from the block to the linear layer."""
    reads: str
    """Axis of its input: `residual`, `inner` (query heads), `kv` (key/value heads), `ffn`, or the heads of
    cross-attention: `cross_inner`, `cross_kv`."""
    writes: str
    """Axis of its output."""
    part: int = 0
    """Which part of the output, counted from 0."""
    parts: int = 1
    """Number of equal parts of the output (3 for a fused query-key-value layer)."""
    positions: str | None = None
    """The stack whose positions its activations have, if not its own (keys and values of cross-attention)."""


@dataclass(frozen=True)
class Attention:
    """An attention in every block."""

    path: str
    """Attribute path from the block to the attention."""
    prefix_bias: Callable[[nn.Module, int, int], Tensor] | None = None
    """Computes the position bias `[1, heads, query, prefix]` of a prefix from the first block's attention, the query
    length and the prefix length. None if a prefix has no bias."""


@dataclass(frozen=True)
class Stack:
    """A stack of blocks of the same form."""

    name: str
    """`encoder` or `decoder`."""
    blocks: str
    """Attribute path from the model to its list of blocks."""
    attentions: Mapping[str, Attention]
    """By standard name: `attn`, and `cross` for cross-attention."""
    target_modules: Mapping[str, TargetModule]
    """By standard name (docs/design.md), without the stack."""
    axes: Mapping[str, tuple[str, ...]]
    """Axes of each weight of a block, by its name in the block: an axis of `TargetModule`, `heads` (one value per query
    head), or e.g. `3*inner` for a fused layer; `-` is an axis that is never pruned."""
    shared_heads: bool = False
    """Whether all blocks share one set of heads in `attn` (because they share a position bias)."""


@dataclass(frozen=True)
class Family:
    """Where things are in the Hugging Face models of one family."""

    name: str
    model_types: tuple[str, ...]
    """Allowed values of `config.model_type`."""
    loader: Literal["AutoModelForCausalLM", "AutoModelForSeq2SeqLM"]
    """The transformers class that loads its checkpoints."""
    stacks: tuple[Stack, ...]
    """In the order of execution."""
    run: Callable[[nn.Module, Texts], Tensor]
    """The forward pass without the head: the decoder's last hidden states `[rows, length, d]`, the head's input."""
    outer_axes: Mapping[str, tuple[str, ...]]
    """Axes of the weights outside of blocks, by name in the model."""
    embeddings: str
    """Attribute path of the first stack's input embedding. Its parent module takes `input_ids` or `inputs_embeds`."""
    dropouts: tuple[str, ...]
    """Names of the dropout probabilities in the configuration."""
    dims: Callable[[Any], Dims]
    """Sizes from a configuration."""
    resized: Callable[[Any, Dims], nn.Module]
    """A new, uninitialised model of the configuration, with other sizes."""
    thinned: Callable[[Any, Mapping[str, Sequence[int]]], Any] | None = None
    """The configuration of the same model with only these blocks, by stack; None if unsupported."""
    positioned: str | None = None
    """Attribute path of the part that takes `position_ids`, which a prefix shifts; None if positions are relative."""
    template: Callable[[Any, Any], Template] | None = None
    """From configuration and tokenizer, the template of an encoder-decoder; None for a decoder-only model."""
    variant: Callable[[Any], Family] | None = field(default=None, repr=False)
    """From a configuration, the family with the tables of its models; None if all models share the tables."""

    def for_config(self, config: Any) -> Family:
        """The family with the tables for models of this configuration."""
        return self.variant(config) if self.variant else self

    def stack(self, name: str) -> Stack:
        """The stack of that name."""
        return next(stack for stack in self.stacks if stack.name == name)

    @cached_property
    def target_modules(self) -> Mapping[str, TargetModule]:
        """All target modules by full name."""
        return {
            self._full(stack, name): target for stack in self.stacks for name, target in stack.target_modules.items()
        }

    @cached_property
    def attentions(self) -> Mapping[str, Attention]:
        """All attentions by full name."""
        return {self._full(stack, name): each for stack in self.stacks for name, each in stack.attentions.items()}

    def _full(self, stack: Stack, name: str) -> str:
        return f"{stack.name}.{name}" if len(self.stacks) > 1 else name

    def target(self, name: str) -> TargetModule:
        """The target module of that full name.

        Raises:
            ModelError: this family has no such target; names the nearest.
        """
        if name == EMBEDDINGS:
            return TargetModule("", reads="-", writes="residual")
        if name not in self.target_modules:
            raise ModelError(unknown(f"target of family {self.name}", name, self.target_modules))
        return self.target_modules[name]

    def expanded(self, names: Iterable[str]) -> tuple[str, ...]:
        """Full names of target modules. A name without its stack means that target in every stack that has it.

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
        """The stack whose positions a space's activations have; spaces are `<target>.<in|out>`, `<stack>.residual`."""
        if stack_of(space) == EMBEDDINGS:
            return self.stacks[0].name
        target = self.target_modules.get(space.rpartition(".")[0])
        return target.positions if target and target.positions else stack_of(space)

    def blocks_of(self, model: nn.Module, stack: str) -> list[nn.Module]:
        """The blocks of a stack, first to last; for `embeddings`, the input embedding itself."""
        if stack == EMBEDDINGS:
            return [model.get_submodule(self.embeddings)]
        return list(model.get_submodule(self.stack(stack).blocks).children())

    def depths_of(self, model: nn.Module) -> dict[str, int]:
        """Number of blocks of each stack, without `embeddings`."""
        return {stack.name: len(self.blocks_of(model, stack.name)) for stack in self.stacks}

    def attentions_of(self, model: nn.Module, name: str) -> list[nn.Module]:
        """The attention of that full name in each block."""
        path = self.attentions[name].path
        return [block.get_submodule(path) for block in self.blocks_of(model, stack_of(name))]

    def linear_at(self, block: nn.Module, name: str) -> nn.Module:
        """The linear layer of a target in one block."""
        return block.get_submodule(self.target(name).path)

    def linears_of(self, model: nn.Module, name: str) -> list[nn.Module]:
        """The linear layer of a target in each block."""
        path = self.target(name).path
        return [block.get_submodule(path) for block in self.blocks_of(model, stack_of(name))]

    def target_widths(self, model: nn.Module, name: str) -> tuple[int, int]:
        """`(d_in, d_out)` of a target, the same in every block."""
        target = self.target(name)
        linear = self.linears_of(model, name)[0]
        if isinstance(linear, nn.Linear):  # its weight may be quantised
            return linear.in_features, linear.out_features // target.parts
        weight = self.weight_in_out(linear)
        return weight.shape[0], weight.shape[1] // target.parts

    @staticmethod
    def weight_in_out(linear: nn.Module) -> Tensor:
        """The weight of a linear layer as `[d_in, d_out]`, however its class stores it."""
        weight = linear.get_parameter("weight")
        return weight.T if isinstance(linear, nn.Linear) else weight


def run_decoder(backbone: str) -> Callable[[nn.Module, Texts], Tensor]:
    """`Family.run` for a decoder-only model with explicit positions.

    Args:
        backbone: attribute path of the model without its head.
    """

    def run(model: nn.Module, texts: Texts) -> Tensor:
        ids = texts["decoder"].ids
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        output = model.get_submodule(backbone)(input_ids=ids, position_ids=positions, use_cache=False)
        states: Tensor = output.last_hidden_state
        return states

    return run
