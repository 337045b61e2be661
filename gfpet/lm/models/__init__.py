"""Models: sources, loading, memory checks, and placement of weights."""

from __future__ import annotations

from gfpet.lm.models._device import find_device
from gfpet.lm.models._frozen import FrozenModel
from gfpet.lm.models._load import LoadedModel, load_pretrained, require_same_tokenizer
from gfpet.lm.models._memory import free_memory, require_memory, weight_bytes
from gfpet.lm.models._placement import (
    keep_layout,
    offloaded,
    outputs_first,
    place,
    plain_weight,
    quantiser,
    require_library,
    resident,
    weight_named,
)

__all__ = [
    "FrozenModel",
    "LoadedModel",
    "find_device",
    "free_memory",
    "keep_layout",
    "load_pretrained",
    "offloaded",
    "outputs_first",
    "place",
    "plain_weight",
    "quantiser",
    "require_library",
    "require_memory",
    "require_same_tokenizer",
    "resident",
    "weight_bytes",
    "weight_named",
]
