"""What the rest of gfpet knows of a model family: names, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from gfpet.errors import ModelError, unknown


@dataclass(frozen=True)
class Dims:
    """Sizes of a decoder stack."""

    layers: int
    """n: number of blocks."""
    width: int
    """d: width of the residual stream."""
    heads: int
    """Attention heads of a block."""
    head_width: int
    """Width of one head; `heads * head_width` is the inner width of attention."""
    ffn: int
    """Inner width of the feed-forward part."""

    @property
    def inner(self) -> int:
        """Inner width of attention."""
        return self.heads * self.head_width


@dataclass(frozen=True)
class Site:
    """A linear map in every block, or one of the equal parts of a fused map's output."""

    path: str
    """Attribute path from the block to the map."""
    reads: str
    """Axis that the map's input lives on: `residual`, `inner` (heads) or `ffn`."""
    writes: str
    """Axis that the map's output lives on."""
    part: int = 0
    """Which part of the output, counted from 0."""
    parts: int = 1
    """Into how many equal parts the output is cut (3 for a fused query-key-value map)."""


@dataclass(frozen=True)
class Family:
    """Where things are in the Hugging Face models of one family."""

    name: str
    model_type: str
    """`config.model_type` of its checkpoints."""
    trunk: str
    """Attribute of the model without its language-model head."""
    blocks: str
    """Attribute path from the model to its list of blocks."""
    attention: str
    """Attribute path from a block to its attention."""
    sites: Mapping[str, Site]
    """Sites of a block by their standard names (docs/design.md)."""
    axes: Mapping[str, tuple[str, ...]]
    """Axes of each weight of a block, by its name in the block: `residual`, `inner`, `3*inner` or `ffn`."""
    outer_axes: Mapping[str, tuple[str, ...]]
    """The same for the weights outside of blocks, by their names in the model; `-` is an axis that stays whole."""
    dropouts: tuple[str, ...]
    """Names of the dropout probabilities in the configuration."""
    dims: Callable[[Any], Dims]
    """Sizes from a configuration."""
    resized: Callable[[Any, Dims], nn.Module]
    """A new, uninitialised model like the configuration's, with other sizes."""

    def site(self, name: str) -> Site:
        """The site of that name.

        Raises:
            ModelError: this family has no such site; names the nearest.
        """
        if name not in self.sites:
            raise ModelError(unknown(f"site of family {self.name}", name, self.sites))
        return self.sites[name]

    def trunk_of(self, model: nn.Module) -> nn.Module:
        """The model without its head."""
        return model.get_submodule(self.trunk)

    def blocks_of(self, model: nn.Module) -> list[nn.Module]:
        """The model's blocks, first to last."""
        return list(model.get_submodule(self.blocks).children())

    def attentions_of(self, model: nn.Module) -> list[nn.Module]:
        """The attention of each block."""
        return [block.get_submodule(self.attention) for block in self.blocks_of(model)]

    def map_at(self, block: nn.Module, name: str) -> nn.Module:
        """The linear map behind a site of a block."""
        return block.get_submodule(self.site(name).path)

    def site_widths(self, model: nn.Module, name: str) -> tuple[int, int]:
        """`(d_in, d_out)` of a site, the same in every block."""
        site = self.site(name)
        weight = self.weight_in_out(self.map_at(self.blocks_of(model)[0], name))
        return weight.shape[0], weight.shape[1] // site.parts

    @staticmethod
    def weight_in_out(linear: nn.Module) -> Tensor:
        """The weight `[d_in, d_out]` of a linear map, whichever way its class stores it."""
        weight = linear.get_parameter("weight")
        return weight.T if isinstance(linear, nn.Linear) else weight
