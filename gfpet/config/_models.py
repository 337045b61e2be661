"""Section `models`: the pair of each family, its source and its device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import create_model, model_validator

from gfpet.config._section import Dtype, Positive, PositiveFloat, Section
from gfpet.lm.registry import FAMILY_NAMES

DERIVE = "derive"
"""The `path` of a small model that stage `derive` makes from the large one."""


class Checkpoint(Section):
    """Where a model comes from."""

    path: str
    """Local folder in the `save_pretrained` form, a `.gguf` file, or a hub id. For the small model also `derive`: stage
    `derive` makes it from the large one."""
    revision: str | None = None
    """Commit on the hub: required for a hub id, unused for local files."""
    dtype: Dtype = "float32"
    """Data type of the weights."""


class LargeCheckpoint(Checkpoint):
    """Where the large model comes from, and how its weights are kept. It only runs forward."""

    device_map: Literal["single", "auto"] = "single"
    """`single`: the whole model on `models.device`. `auto`: offload what does not fit to CPU memory, then to disk."""
    memory_gb: PositiveFloat | None = None
    """With `device_map: auto`, memory of `models.device` for the weights, in units of 10^9 bytes. null: nine tenths of
    the free memory (`gfpet memory` then assumes that the model fits)."""
    quantisation: Literal["none", "int8", "int4"] = "none"
    """Weights of linear layers in 8 or 4 bits, with bitsandbytes, if the hardware supports it."""

    @model_validator(mode="after")
    def _one_or_the_other(self) -> LargeCheckpoint:
        if self.quantisation != "none" and self.device_map != "single":
            raise ValueError(
                f"quantisation is '{self.quantisation}' and device_map '{self.device_map}': quantised weights stay on "
                "one device; set device_map to 'single', or quantisation to 'none'"
            )
        return self


class Pair(Section):
    """A small and a large model of one family, with the same tokenizer."""

    small: Checkpoint
    large: LargeCheckpoint

    @model_validator(mode="after")
    def _only_small_is_derived(self) -> Pair:
        if self.large.path == DERIVE:
            raise ValueError(f"large.path is '{DERIVE}', but only the small model can be derived, from the large one")
        return self


class _Common(Section):
    """Where the models run."""

    device: str = "auto"
    """`auto` (CUDA if available, else CPU), `cpu`, `cuda`, `cuda:1`, ..."""
    threads: Positive = 1
    """CPU threads of a stage. A parameter rather than the machine's default, since floating-point sums depend on it."""
    max_length: Positive = 240
    """Most tokens of context and candidate together (of each, in encoder-decoder models); longer contexts lose their
    beginning."""


def _pair(family: str) -> Pair:
    small, large = (f"checkpoints/{family}/{size}" for size in ("small", "large"))
    return Pair(small=Checkpoint(path=small), large=LargeCheckpoint(path=large))


def _all_models() -> type[_Common]:
    fields: dict[str, Any] = {family: (Pair, _pair(family)) for family in FAMILY_NAMES}
    doc = "The pair of each family, and where they run."
    return create_model("Models", __base__=_Common, __doc__=doc, **fields)


if TYPE_CHECKING:
    Models = _Common
else:
    Models = _all_models()
