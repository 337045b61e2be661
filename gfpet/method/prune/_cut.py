"""Cuts the Bridge out of the large model: chooses coordinates, then builds a smaller model from them.

One index set serves the whole residual stream, so that each block reads the coordinates that the others write. (The
published Ladder-Side-Tuning code picks another set for each output layer and then adds them up.) All stacks share the
set, since they share their embeddings. Heads are kept or removed whole, key/value heads with all their query heads, so
attention's memory shrinks with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gfpet.errors import ModelError
from gfpet.lm.families import Dims, Family
from gfpet.lm.models import weight_named
from gfpet.method.prune._importance import Importance


@dataclass(frozen=True)
class KeptStack:
    """Indices into one stack's coordinates, block by block."""

    heads: Int[Tensor, "n kv_g"]
    """Key/value heads of `attn`; each keeps all its query heads."""
    ffn: Int[Tensor, "n ffn_g"]
    cross_heads: Int[Tensor, "n kv_g"] | None
    """Key/value heads of `cross`; None without cross-attention."""
    group: int
    """Query heads that share one key/value head."""
    head_width: int

    def axis(self, name: str, layer: int) -> Int[Tensor, " kept"]:
        """Indices on the axis `ffn`, `heads`, `inner` or `kv`, or `cross_...` of a block."""
        if name == "ffn":
            return self.ffn[layer]
        heads = self.cross_heads if name.startswith("cross_") else self.heads
        if heads is None:
            raise ModelError(f"a stack without cross-attention has no axis '{name}'.")
        width = {"heads": self.group, "inner": self.group * self.head_width, "kv": self.head_width}
        within = torch.arange(width[name.removeprefix("cross_")])
        return (heads[layer][:, None] * len(within) + within).flatten()


@dataclass(frozen=True)
class Kept:
    """Indices into the large model's coordinates, each set in rising order."""

    residual: Int[Tensor, " d_g"]
    """One set for all stacks."""
    stacks: Mapping[str, KeptStack]

    def axis(self, stack: str, name: str, layer: int) -> Int[Tensor, " kept"]:
        """Indices on an axis (`gfpet.lm.families.TargetModule.reads`, or `heads`) of a block."""
        return self.residual if name == "residual" else self.stacks[stack].axis(name, layer)


def reduced_dims(dims: Dims, factor: float, reduction: Literal["parameters", "width"]) -> Dims:
    """The Bridge's sizes: every width divided by `factor` (`width`), or by its square root (`parameters`).

    The square root divides the parameter count by about `factor`.

    Raises:
        ModelError: the factor is below 1.
    """
    if factor < 1:
        raise ModelError(f"prune.factor is {factor:g}; a Bridge is at most as large as the large model: 1 or more.")
    by = factor if reduction == "width" else math.sqrt(factor)
    stacks = {}
    for name, of in dims.stacks.items():
        kv_heads = max(1, round(of.kv_heads / by))
        stacks[name] = replace(of, heads=kv_heads * of.group, kv_heads=kv_heads, ffn=max(1, round(of.ffn / by)))
    return Dims(max(1, round(dims.width / by)), stacks)


def choose(importance: Importance, dims: Dims, family: Family) -> Kept:
    """The most important coordinates, in the numbers given by `dims`; ties go to the first."""

    def top(values: Tensor, count: int) -> Tensor:
        order = values.argsort(dim=-1, descending=True, stable=True)
        return order[..., :count].sort(dim=-1).values

    stacks = {}
    for stack in family.stacks:
        of, found = dims.stacks[stack.name], importance.stacks[stack.name]
        heads = found.heads.sum(0).expand_as(found.heads) if stack.shared_heads else found.heads
        stacks[stack.name] = KeptStack(
            heads=top(heads, of.kv_heads),
            ffn=top(found.ffn, of.ffn),
            cross_heads=None if found.cross_heads is None else top(found.cross_heads, of.kv_heads),
            group=of.group,
            head_width=of.head_width,
        )
    return Kept(top(importance.residual, dims.width), stacks)


def cut(model: nn.Module, family: Family, dims: Dims, kept: Kept) -> nn.Module:
    """A new model of sizes `dims` with the kept coordinates of every weight; frozen, in evaluation mode, float32.

    Raises:
        ModelError: the family's table lacks a weight of the model, or the model has an untied weight that its
            configuration ties.
    """
    bridge = family.resized(model.config, dims)
    whole = family.dims(model.config)
    apart = {name for name, _ in model.named_parameters()}.difference(name for name, _ in bridge.named_parameters())
    if apart:
        raise ModelError(
            f"the large model has a weight '{min(apart)}' of its own, which models of its configuration tie to another "
            "(tie_word_embeddings): it cannot be pruned as it is."
        )
    with torch.no_grad():
        for name, target in bridge.named_parameters():
            axes, stack, layer = _axes(family, name)
            source = weight_named(model, name)
            for axis, axis_name in enumerate(axes):
                if axis_name != "-":
                    index = _index(kept, whole, stack, axis_name, layer)
                    source = source.index_select(axis, index.to(source.device))
            target.copy_(source)
    return bridge.eval().requires_grad_(False)


def _axes(family: Family, name: str) -> tuple[tuple[str, ...], str, int]:
    """A weight's axes, stack and layer, from its name in the model (layer 0 for weights outside of blocks)."""
    if name in family.outer_axes:
        return family.outer_axes[name], family.stacks[-1].name, 0
    for stack in family.stacks:
        prefix = stack.blocks + "."
        if name.startswith(prefix):
            layer, inner = name.removeprefix(prefix).split(".", 1)
            if inner in stack.axes:
                return stack.axes[inner], stack.name, int(layer)
    raise ModelError(f"family {family.name} does not know the weight '{name}', so it cannot be pruned.")


def _index(kept: Kept, whole: Dims, stack: str, axis: str, layer: int) -> Tensor:
    """Indices on an axis; `3*inner` is the axis of a fused query-key-value layer, its three parts in a row."""
    count, _, name = axis.rpartition("*")
    part, width = kept.axis(stack, name, layer), whole.size(stack, name)
    return torch.cat([part + number * width for number in range(int(count or 1))])


@dataclass(frozen=True)
class Bridge:
    """The pruned model `g`, and its coordinates in the large model."""

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
    indices = {"residual": bridge.kept.residual}
    for stack, kept in bridge.kept.stacks.items():
        indices |= {f"{stack}.heads": kept.heads, f"{stack}.ffn": kept.ffn}
        indices |= {} if kept.cross_heads is None else {f"{stack}.cross_heads": kept.cross_heads}
    save_file({name: index.contiguous() for name, index in indices.items()}, folder / "kept.safetensors")
    (folder / "dims.json").write_text(json.dumps(asdict(bridge.dims), indent=1) + "\n", encoding="utf-8")
    config.save_pretrained(folder)


def load_bridge(folder: Path, family: Family, device: torch.device) -> Bridge:
    """Read a folder written by `save_bridge`.

    Raises:
        ModelError: a file is missing or broken.
    """
    from transformers import AutoConfig

    try:
        dims = Dims.of(json.loads((folder / "dims.json").read_text(encoding="utf-8")))
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
    stacks = {
        name: KeptStack(
            heads=indices[f"{name}.heads"],
            ffn=indices[f"{name}.ffn"],
            cross_heads=indices.get(f"{name}.cross_heads"),
            group=of.group,
            head_width=of.head_width,
        )
        for name, of in dims.stacks.items()
    }
    kept = Kept(indices["residual"], stacks)
    return Bridge(model.to(device).eval().requires_grad_(False), dims, kept)
