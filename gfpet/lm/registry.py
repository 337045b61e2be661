"""The kinds of module and the model families, one entry each. Imports no torch, because the configuration reads it.

To add a kind, write `gfpet/lm/modules/<kind>.py`, and add its entry here and its defaults to `params.yaml`. To add a
family, write `gfpet/lm/families/<family>.py`, and do the same. All other code reads these entries, or the `Kind` and
`Family` objects that they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

Default = int | float | tuple[str, ...]
"""Type of an option's default: a count, a positive number, or a list of target modules."""


@dataclass(frozen=True)
class KindEntry:
    """A kind of module."""

    name: str
    path: str
    """`<Python module>:<constant>` of its `gfpet.lm.modules.Kind`."""
    options: Mapping[str, Default]
    """Its section of `modules` in params.yaml, with the defaults."""
    learning_rate: float
    """Default of `tune.learning_rate` and `reference.learning_rate`."""
    marker: str
    """Its matplotlib marker."""
    scalable: bool = True
    """Whether a factor can scale its effect; the strategies that choose such a factor need this."""
    positions: str | None = None
    """The option with the number of positions that it adds before the text; None if it adds none."""
    is_default: bool = False
    """Whether `kinds` and `reference.methods` include it by default."""


@dataclass(frozen=True)
class FamilyEntry:
    """A model family. Its default checkpoints are `checkpoints/<name>/{small,large}`."""

    name: str
    path: str
    """`<Python module>:<constant>` of its `gfpet.lm.families.Family`."""


KINDS: dict[str, KindEntry] = {
    entry.name: entry
    for entry in (
        KindEntry(
            "lora",
            "gfpet.lm.modules.lora:LORA",
            {"rank": 8, "alpha": 16.0, "target_modules": ("attn.q", "attn.v")},
            learning_rate=3e-3,
            marker="o",
            is_default=True,
        ),
        KindEntry(
            "adapter",
            "gfpet.lm.modules.adapter:ADAPTER",
            {"bottleneck": 16, "target_modules": ("attn.o", "mlp.down")},
            learning_rate=3e-3,
            marker="s",
            is_default=True,
        ),
        KindEntry(
            "prefix",
            "gfpet.lm.modules.prefix:PREFIX",
            {"length": 8},
            learning_rate=1e-1,
            marker="^",
            scalable=False,
            positions="length",
            is_default=True,
        ),
        KindEntry(
            "soft_prompt",
            "gfpet.lm.modules.soft_prompt:SOFT_PROMPT",
            {"length": 16},
            learning_rate=3e-2,
            marker="v",
            scalable=False,
            positions="length",
        ),
        KindEntry(
            "vera",
            "gfpet.lm.modules.vera:VERA",
            {"rank": 64, "target_modules": ("attn.q", "attn.v")},
            learning_rate=1e-2,
            marker="P",
        ),
    )
}
FAMILIES: dict[str, FamilyEntry] = {
    entry.name: entry
    for entry in (
        FamilyEntry("gpt2", "gfpet.lm.families.gpt2:GPT2"),
        FamilyEntry("llama", "gfpet.lm.families.llama:LLAMA"),
        FamilyEntry("t5", "gfpet.lm.families.t5:T5"),
    )
}
KIND_NAMES = tuple(KINDS)
DEFAULT_KINDS = tuple(entry.name for entry in KINDS.values() if entry.is_default)
FAMILY_NAMES = tuple(FAMILIES)
TUNING_METHODS = ("full", *KIND_NAMES)
"""Ways to tune the large model by gradients."""


def load_entry(entry: KindEntry | FamilyEntry) -> Any:
    """The `Kind` or `Family` of an entry; imports its file, and thus torch."""
    file, _, constant = entry.path.partition(":")
    return getattr(import_module(file), constant)
