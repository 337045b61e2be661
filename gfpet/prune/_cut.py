"""Cutting the Bridge out of the large model: which coordinates stay, and a smaller model made of them.

One index set holds for the whole residual stream, so that what one block writes is what the next one reads (the
published Ladder-Side-Tuning code picks another set for each output map and then adds them up). Heads stay or go whole,
so attention's memory shrinks with them.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gfpet.errors import ModelError
from gfpet.families import Dims, Family
from gfpet.prune._importance import Importance


@dataclass(frozen=True)
class Kept:
    """Indices into the large model's coordinates, each set rising."""

    residual: Int[Tensor, " d_g"]
    heads: Int[Tensor, "n heads_g"]
    ffn: Int[Tensor, "n ffn_g"]
    head_width: int

    def axis(self, name: str, layer: int) -> Int[Tensor, " kept"]:
        """Indices on the axis `residual`, `inner` or `ffn` of a block."""
        if name == "residual":
            return self.residual
        if name == "ffn":
            return self.ffn[layer]
        within = torch.arange(self.head_width)
        return (self.heads[layer][:, None] * self.head_width + within).flatten()


def reduced_dims(dims: Dims, factor: float, reduction: Literal["parameters", "width"]) -> Dims:
    """The Bridge's sizes: every width divided by `factor`, or by its root, so that parameters are divided by `factor`.

    Raises:
        ModelError: the factor would make the large model larger.
    """
    if factor < 1:
        raise ModelError(f"prune.factor is {factor:g}; a Bridge is at most as large as the large model: 1 or more.")
    by = factor if reduction == "width" else math.sqrt(factor)
    return replace(
        dims,
        width=max(1, round(dims.width / by)),
        heads=max(1, round(dims.heads / by)),
        ffn=max(1, round(dims.ffn / by)),
    )


def choose(importance: Importance, dims: Dims, head_width: int) -> Kept:
    """The most important coordinates, as many as `dims` has; of equals, the first."""

    def top(values: Tensor, count: int) -> Tensor:
        order = values.argsort(dim=-1, descending=True, stable=True)
        return order[..., :count].sort(dim=-1).values

    return Kept(
        residual=top(importance.residual, dims.width),
        heads=top(importance.heads, dims.heads),
        ffn=top(importance.ffn, dims.ffn),
        head_width=head_width,
    )


def cut(model: nn.Module, family: Family, dims: Dims, kept: Kept) -> nn.Module:
    """A new model of sizes `dims` with the kept coordinates of every weight; frozen, in evaluation mode, float32.

    Raises:
        ModelError: the model has a weight that the family's table does not name.
    """
    bridge = family.resized(model.config, dims)
    weights, inner = dict(model.named_parameters()), family.dims(model.config).inner
    with torch.no_grad():
        for name, target in bridge.named_parameters():
            axes, layer = _axes(family, name)
            source = weights[name].detach()
            for axis, axis_name in enumerate(axes):
                if axis_name != "-":
                    index = _index(kept, axis_name, layer, inner)
                    source = source.index_select(axis, index.to(source.device))
            target.copy_(source)
    return bridge.eval().requires_grad_(False)


def _axes(family: Family, name: str) -> tuple[tuple[str, ...], int]:
    """Axes of a weight by its name in the model, and its layer (0 for weights outside of blocks)."""
    if name in family.outer_axes:
        return family.outer_axes[name], 0
    prefix = family.blocks + "."
    if name.startswith(prefix):
        layer, inner = name.removeprefix(prefix).split(".", 1)
        if inner in family.axes:
            return family.axes[inner], int(layer)
    raise ModelError(f"family {family.name} does not know the weight '{name}', so it cannot be pruned.")


def _index(kept: Kept, axis: str, layer: int, inner: int) -> Tensor:
    """Indices on an axis; `3*inner` is that of a fused query-key-value map, `inner` wide each."""
    if not axis.startswith("3*"):
        return kept.axis(axis, layer)
    part = kept.axis(axis.removeprefix("3*"), layer)
    return torch.cat([part + number * inner for number in range(3)])


@dataclass(frozen=True)
class Bridge:
    """The pruned model `g` and where its coordinates are in the large model."""

    model: nn.Module
    dims: Dims
    kept: Kept

    @property
    def parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def save_bridge(bridge: Bridge, config: Any, folder: Path) -> None:
    """Write `bridge.safetensors`, `kept.safetensors`, `dims.json` and the large model's `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in bridge.model.named_parameters()}
    save_file(weights, folder / "bridge.safetensors")
    kept = bridge.kept
    save_file(
        {"residual": kept.residual, "heads": kept.heads, "ffn": kept.ffn},
        folder / "kept.safetensors",
        metadata={"head_width": str(kept.head_width)},
    )
    (folder / "dims.json").write_text(json.dumps(asdict(bridge.dims), indent=1) + "\n", encoding="utf-8")
    config.save_pretrained(folder)


def load_bridge(folder: Path, family: Family, device: torch.device) -> Bridge:
    """Read what `save_bridge` wrote.

    Raises:
        ModelError: a file is missing or broken.
    """
    from transformers import AutoConfig

    try:
        dims = Dims(**json.loads((folder / "dims.json").read_text(encoding="utf-8")))
        config = AutoConfig.from_pretrained(folder)
        config._attn_implementation = "sdpa"
        indices = load_file(folder / "kept.safetensors")
        weights = load_file(folder / "bridge.safetensors")
    except Exception as error:  # safetensors raises its own untyped errors
        raise ModelError(f"cannot read the Bridge in {folder}: {error}; run the stage 'prune' again.") from error
    model = family.resized(config, dims)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    kept = Kept(indices["residual"], indices["heads"], indices["ffn"], dims.head_width)
    return Bridge(model.to(device).eval().requires_grad_(False), dims, kept)
