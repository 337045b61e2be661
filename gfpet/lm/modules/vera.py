"""VeRA (Kopiczko et al. 2024, arXiv:2310.11454): `y = x W + Λ_b B Λ_d A x`; A and B are random, b and d are trained.

All blocks and targets share one random A and B; each target takes as many of their rows and columns as it is wide, as
in Hugging Face `peft`. d starts at 0.1, b at zero.

Plugging maps the whole update of rank r: `P Λ_b B Λ_d A Q`. No b of the large model gives this with the same B, because
`P Λ_b B` is not of the form `Λ_b' B`. So `Kind.folded` first multiplies b and d into B and A; the plugged module has
only these two. This is exact for every P and Q, keeps the rank r, and gives S's module if P and Q are identities. IA3
(arXiv:2205.05638) cannot be plugged this way: its vector of scales holds only the diagonal of `P Λ Q`. Neither can DoRA
(arXiv:2402.09353), which divides by the norms of its own model's weights.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from gfpet.lm.families import Family, Texts, stack_of
from gfpet.lm.modules._kind import Kind, Options, Part, by_target, layers_at, shapes_of, split_name, targets_of
from gfpet.lm.modules._module import PetModule
from gfpet.lm.modules.lora import LORA

_D_START = 0.1


def _targets(family: Family, options: Options) -> tuple[str, ...]:
    return family.expanded(options["target_modules"])


def _start(model: nn.Module, family: Family, options: Options, _: Texts, generator: torch.Generator) -> PetModule:
    """A VeRA module without effect yet.

    Shapes: `<target>.A [n, rank, d_in]`, `<target>.B [n, d_out, rank]`, Kaiming-uniform; `<target>.d [n, rank]`,
    `<target>.b [n, d_out]`.
    """
    targets, rank = _targets(family, options), options["rank"]
    layers = layers_at(family, model, targets)
    widths = {target: family.target_widths(model, target) for target in targets}
    most_in, most_out = (max(width[side] for width in widths.values()) for side in (0, 1))

    def drawn(rows: int, columns: int) -> Tensor:
        bound = math.sqrt(6 / columns)
        return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)

    a, b = drawn(rank, most_in), drawn(most_out, rank)
    tensors: dict[str, Tensor] = {}
    for target, (d_in, d_out) in widths.items():
        depth = len(layers[stack_of(target)])
        tensors[f"{target}.A"] = a[:, :d_in].repeat(depth, 1, 1)
        tensors[f"{target}.d"] = torch.full((depth, rank), _D_START)
        tensors[f"{target}.B"] = b[:d_out].repeat(depth, 1, 1)
        tensors[f"{target}.b"] = torch.zeros(depth, d_out)
    return PetModule("vera", family.name, layers, tensors)


def _options_of(module: PetModule) -> Options:
    return {"rank": shapes_of(module)["A"][1], "target_modules": targets_of(module)}


def _folded(module: PetModule) -> PetModule:
    """The same update with `A ← Λ_d A`, `B ← Λ_b B`, without d and b; differentiable in A, B, b and d."""
    tensors = {}
    for name, tensor in module.tensors.items():
        target, part = split_name(name)
        if part in ("A", "B"):
            factor = module.tensors.get(f"{target}.{'d' if part == 'A' else 'b'}")
            tensors[name] = tensor if factor is None else factor.unsqueeze(-1) * tensor
    return module.with_tensors(tensors)


VERA = Kind(
    name="vera",
    parts={
        "A": Part(axis=2, direction="read", side="in", is_trained=False),
        "d": Part(axis=None, direction="inner"),
        "B": Part(axis=1, direction="write", is_update=True, is_trained=False),
        "b": Part(axis=None, direction="inner"),
    },
    targets=_targets,
    start=_start,
    options_of=_options_of,
    # The folded module computes like a LoRA.
    insert=lambda model, family, module: LORA.insert(model, family, _folded(module)),
    updates=partial(by_target, left="B", right="A"),
    zero_at_start="b",
    folded=_folded,
)
