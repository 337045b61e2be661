"""The null control `untrained`: an untrained module of the same shape."""

from __future__ import annotations

from dataclasses import replace

import torch

from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import KINDS, PetModule, split_name
from gfpet.lm.scoring import Split, TaskData
from gfpet.lm.training import start_module

# `start_module` uses the longest of this many texts; each sample gets its own.
_TEXTS = 64
# Far from the training seeds, so that no untrained module shares its start with a trained one.
_FIRST_SEED = 1_000_003


def untrained_like(module: PetModule, loaded: LoadedModel, data: TaskData, *, sample: int) -> PetModule:
    """A new module with the kind, target modules and sizes of a trained one of the same model.

    A kind that starts without effect, such as LoRA with B = 0, has no direction to compare. Its zero part is drawn at
    random instead, with the trained part's root mean square per target module and block. For kinds that start from real
    text, each sample uses other text.
    """
    seed = _FIRST_SEED + sample
    first = sample * _TEXTS % max(len(data.train), 1)
    texts = Split(data.train.examples[first:], data.train.encoded[first:])
    kind = KINDS[module.kind]
    fresh = start_module(module.kind, loaded, kind.options_of(module), replace(data, train=texts), seed=seed)
    if kind.zero_at_start is None:
        return fresh
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(fresh.tensors)
    for name, trained in sorted(module.tensors.items()):
        if split_name(name)[1] == kind.zero_at_start:
            size = trained.float().square().mean(tuple(range(1, trained.ndim)), keepdim=True).sqrt()
            drawn = torch.randn(trained.shape, generator=generator)
            tensors[name] = drawn.to(size.device) * size
    return fresh.with_tensors(tensors)
