"""Quantises L's linear layers to 8 or 4 bits, as `models.<family>.large.quantisation` does, with real or fake weights.

The loader quantises to bitsandbytes' own parameter classes, which cannot hold fake tensors. Here the same layers and
operators use plain parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from gfpet.lm.models import LoadedModel, keep_layout, quantiser


def quantise_fake(loaded: LoadedModel, quantisation: str, dtype: torch.dtype, device: torch.device) -> None:
    """Quantise in place the linear layers that the loader would quantise.

    Raises:
        ModelError: bitsandbytes is not installed, or does not support this hardware.
    """
    config = quantiser(quantisation, dtype)
    if config is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    model = loaded.model
    before = dict(model.named_modules())
    quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    with unset_fake_temporarily():  # bitsandbytes' parameters cannot be fake; _fill replaces them
        quantizer.preprocess_model(model, dtype=dtype, device_map={"": str(device)})
    for name, part in list(model.named_modules()):
        if part is not before[name]:
            _fill(part, before.pop(name))
    keep_layout(model)
    model.eval().requires_grad_(False)


def _fill(part: Any, source: Any) -> None:
    from bitsandbytes import functional

    weight: Tensor = source.weight.detach()
    if not isinstance(source, nn.Linear):  # transformers' Conv1D of GPT-2 has the inputs on the first axis
        weight = weight.T.contiguous()
    if hasattr(part, "quant_state"):
        codes, part.quant_state = functional.quantize_4bit(weight, quant_type=part.weight.quant_type)
        part.weight = _plain(codes, quant_state=part.quant_state)
    else:
        codes, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
        part.weight = _plain(codes, CB=codes, SCB=scales)
    part.bias = source.bias


def _plain(codes: Tensor, **kept: Any) -> nn.Parameter:
    weight = nn.Parameter(codes, requires_grad=False)
    for name, value in kept.items():
        setattr(weight, name, value)
    return weight
