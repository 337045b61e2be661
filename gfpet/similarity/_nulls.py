"""The null control `untrained`: a module of the same shape that has learned nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import PetModule, split_name
from gfpet.lm.scoring import Split, TaskData
from gfpet.lm.training import start_module

# A start reads the longest of this many texts (gfpet.lm.training._tuning); another sample takes others.
_TEXTS = 64
# Far from the seeds that modules are trained with, or an untrained one would share its start with a trained one.
_FIRST_SEED = 1_000_003


def untrained_like(module: PetModule, loaded: LoadedModel, data: TaskData, *, sample: int) -> PetModule:
    """A freshly started module of the kind, target_modules and sizes of a trained one of the same model.

    A LoRA starts with B = 0, which changes nothing and has no direction. Its B is drawn at random instead, with the
    root mean square of the trained one, by target and block. A prefix starts from real text, each sample from other
    text.
    """
    seed = _FIRST_SEED + sample
    first = sample * _TEXTS % max(len(data.train), 1)
    texts = Split(data.train.examples[first:], data.train.encoded[first:])
    fresh = start_module(module.kind, loaded, _options(module), replace(data, train=texts), seed=seed)
    if module.kind != "lora":
        return fresh
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(fresh.tensors)
    for name, trained in sorted(module.tensors.items()):
        if split_name(name)[1] == "B":
            size = trained.float().square().mean((1, 2), keepdim=True).sqrt()
            drawn = torch.randn(trained.shape, generator=generator)
            tensors[name] = drawn.to(size.device) * size
    return fresh.with_tensors(tensors)


def _options(module: PetModule) -> dict[str, object]:
    """The section of `modules` in params.yaml that such a module comes from."""
    target_modules = tuple(sorted({split_name(name)[0] for name in module.tensors}))
    shapes = {split_name(name)[1]: tensor.shape for name, tensor in module.tensors.items()}
    match module.kind:
        case "lora":
            return {"rank": shapes["A"][1], "alpha": module.scale * shapes["A"][1], "target_modules": target_modules}
        case "adapter":
            return {"bottleneck": shapes["down"][1], "target_modules": target_modules}
        case "prefix":
            return {"length": shapes["prefix"][1]}
