"""Section `modules`: shapes of the three kinds."""

from __future__ import annotations

from gfpet.config._section import Chosen, Positive, PositiveFloat, Section, TargetModule


class Lora(Section):
    """LoRA (Hu et al. 2021)."""

    rank: Positive = 8
    alpha: PositiveFloat = 16.0
    """The update is scaled by alpha / rank."""
    target_modules: Chosen[TargetModule] = ("attn.q", "attn.v")


class Adapter(Section):
    """Bottleneck adapter (Houlsby et al. 2019)."""

    bottleneck: Positive = 16
    target_modules: Chosen[TargetModule] = ("attn.o", "mlp.down")


class Prefix(Section):
    """Prefix tuning (Li and Liang 2021)."""

    length: Positive = 8


class Modules(Section):
    """Shapes of the three kinds of module."""

    lora: Lora = Lora()
    adapter: Adapter = Adapter()
    prefix: Prefix = Prefix()
