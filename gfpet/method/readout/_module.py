"""The module of a readout. It is not part of the paper: docs/design.md says how it differs from a plugged module.

x_l[t] = h_l[t] / rms(h_l[t])                   residual stream at layer read l, position t; n: the decoder's last one
a_l,j  = softmax over t of x_n[p] Q_l,j · x_l[t] K_l,j / √k      head j, query at position p; t ≤ p in the decoder
z[p]   = bias + Σ_l ( x_l[p] R_l + [Σ_t a_l,j[t] x_l[t] V_l,j]_j )    R: only for the decoder's layers read
y[p]   = hidden[p] + U gelu(z[p]) + c           hidden: after the final norm, the input of the output embedding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import gelu

from gfpet.lm.families import Dims, Padded
from gfpet.lm.scoring import Batch
from gfpet.lm.tensor_file import load_tensors, save_tensors

FORMAT = "gfpet-readout-1"
_EPSILON = 1e-6


@dataclass(frozen=True)
class Readout:
    """The trained tensors.

    Shapes, for a stack with n layers read, width d, H heads of width k, and bottleneck b: `<stack>.query`,
    `<stack>.key` `[n, d, H·k]`; `<stack>.value`, `decoder.read` `[n, d, b]`; `bias` `[b]`, `up` `[b, d]`, `up_bias`
    `[d]`.
    """

    layers_read: Mapping[str, tuple[int, ...]]
    """By stack, the blocks whose inputs are read; the number of blocks stands for the last block's output."""
    heads: int
    tensors: Mapping[str, Tensor]

    def __call__(self, streams: Mapping[str, Tensor], batch: Batch) -> Float[Tensor, "reads d"]:
        """The readout's output, to be added to the hidden states at the batch's reads.

        Args:
            streams: by stack, the residual stream at each layer read, `[n, rows, length, d]`.
        """
        at = batch.read_row, batch.read_position
        normed = {stack: _normed(states.to(self.tensors["up"].dtype)) for stack, states in streams.items()}
        here = normed["decoder"][:, *at]
        inner = torch.einsum("nrd,ndb->rb", here, self.tensors["decoder.read"]) + self.tensors["bias"]
        places = _places(batch.read_row, batch.texts["decoder"].ids.shape[0])
        for stack, states in normed.items():
            seen = _seen(batch.texts[stack], *at, causal=stack == "decoder")
            inner = inner + sum(self._attended(stack, here[-1], states, seen, places))
        return gelu(inner) @ self.tensors["up"] + self.tensors["up_bias"]

    def _attended(
        self, stack: str, asking: Tensor, states: Tensor, seen: Tensor, places: tuple[Tensor, Tensor]
    ) -> Iterator[Float[Tensor, "reads b"]]:
        """Attention per layer read, one at a time to bound memory.

        There are few queries, so keys and values are never computed for the text: K is applied to the queries
        (x K · q = x · K q), V to the attended means.
        """
        size = (states.shape[1], int(places[1].max()) + 1)
        unseen = seen.new_zeros(*size, seen.shape[-1]).index_put(places, seen).logical_not().unsqueeze(2)
        # Unused query slots attend everywhere, to avoid NaN from an empty softmax.
        unseen = unseen.logical_and(~unseen.all(-1, keepdim=True))
        for tap, text in enumerate(states):
            query, key, value = (
                self._by_head(self.tensors[f"{stack}.{part}"][tap]) for part in ("query", "key", "value")
            )
            asked = torch.einsum("rd,dhk->rhk", asking, query) / query.shape[-1] ** 0.5
            asked = torch.einsum("rhk,dhk->rhd", asked, key)
            asked = asked.new_zeros(*size, *asked.shape[1:]).index_put(places, asked)
            weights = (asked.flatten(1, 2) @ text.mT).unflatten(1, (size[1], -1))
            weights = weights.masked_fill(unseen, -torch.inf).softmax(-1)
            found = (weights.flatten(1, 2) @ text).unflatten(1, (size[1], -1))[places]
            yield torch.einsum("rhd,dhb->rhb", found, value).flatten(1)

    def _by_head(self, lines: Tensor) -> Tensor:
        return lines.view(*lines.shape[:-1], self.heads, -1)

    def to(self, device: torch.device) -> Readout:
        """A copy on another device."""
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})

    def save(self, path: Path) -> None:
        """Write a safetensors file; the same values give the same bytes."""
        save_tensors(path, self.tensors, {"format": FORMAT, "layers_read": self.layers_read, "heads": self.heads})

    @classmethod
    def load(cls, path: Path) -> Readout:
        """Read what `save` wrote.

        Raises:
            ModuleError: the file is missing, broken or not a readout of gfpet.
        """
        tensors, about = load_tensors(path, "readout", FORMAT)
        layers_read = {stack: tuple(blocks) for stack, blocks in about["layers_read"].items()}
        return cls(layers_read, about["heads"], tensors)


def layers_to_read(dims: Dims, count: int) -> dict[str, tuple[int, ...]]:
    """Up to `count` layers to read of each stack, evenly spaced from the embeddings to the last block's output.

    A count of 1 reads the embeddings alone.
    """
    layers_read = {}
    for stack, of in dims.stacks.items():
        last = min(count - 1, of.layers)
        layers_read[stack] = tuple(round(of.layers * tap / max(1, last)) for tap in range(last + 1))
    return layers_read


def start_readout(
    layers_read: Mapping[str, tuple[int, ...]],
    width: int,
    *,
    bottleneck: int,
    heads: int,
    head_width: int,
    generator: torch.Generator,
) -> Readout:
    """A new readout with zero output: `up` and the biases are zero, the rest is random.

    Args:
        width: d of the large model.
        bottleneck: b, a multiple of `heads`.
    """
    tensors = {"bias": torch.zeros(bottleneck), "up": torch.zeros(bottleneck, width), "up_bias": torch.zeros(width)}

    def drawn(count: int, out: int) -> Tensor:
        values: Tensor = torch.randn(count, width, out, generator=generator) / width**0.5
        return values

    for stack, of in layers_read.items():
        tensors[f"{stack}.query"] = drawn(len(of), heads * head_width)
        tensors[f"{stack}.key"] = drawn(len(of), heads * head_width)
        tensors[f"{stack}.value"] = drawn(len(of), bottleneck)
    tensors["decoder.read"] = drawn(len(layers_read["decoder"]), bottleneck)
    return Readout(layers_read, heads, tensors)


def _normed(states: Tensor) -> Tensor:
    return states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + _EPSILON)


def _places(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Each read's row, and its index among that row's reads; `rows` is sorted."""
    each = torch.bincount(rows, minlength=count)
    return rows, torch.arange(len(rows), device=rows.device) - (each.cumsum(0) - each)[rows]


def _seen(text: Padded, rows: Tensor, positions: Tensor, *, causal: bool) -> Tensor:
    """`[reads, length]`: the positions that each read may attend to."""
    real: Tensor = text.is_real[rows]
    if not causal:
        return real
    return real.logical_and(torch.arange(real.shape[1], device=real.device) <= positions.unsqueeze(1))
