"""Sizes of well-known models, so that an estimate needs neither weights nor network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gfpet.errors import ModelError, unknown
from gfpet.estimate._workload import Shape
from gfpet.lm.families import FAMILIES


def _gpt2(width: int, layers: int, heads: int) -> Callable[[], Any]:
    def config() -> Any:
        from transformers import GPT2Config

        return GPT2Config(n_embd=width, n_layer=layers, n_head=heads)

    return config


def _t5(width: int, heads: int, head_width: int, ffn: int, layers: int, gated: bool = False) -> Callable[[], Any]:
    def config() -> Any:
        from transformers import T5Config

        return T5Config(
            vocab_size=32128,
            d_model=width,
            d_kv=head_width,
            d_ff=ffn,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu" if gated else "relu",
            tie_word_embeddings=not gated,  # type: ignore[call-arg]
        )

    return config


def _llama(
    width: int, layers: int, heads: int, ffn: int, kv_heads: int | None = None, vocabulary: int = 32000
) -> Callable[[], Any]:
    def config() -> Any:
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=ffn,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads or heads,
            max_position_embeddings=4096,
        )

    return config


KNOWN: dict[str, tuple[str, Callable[[], Any]]] = {
    "openai-community/gpt2": ("gpt2", _gpt2(768, 12, 12)),
    "openai-community/gpt2-medium": ("gpt2", _gpt2(1024, 24, 16)),
    "openai-community/gpt2-large": ("gpt2", _gpt2(1280, 36, 20)),
    "openai-community/gpt2-xl": ("gpt2", _gpt2(1600, 48, 25)),
    "google-t5/t5-small": ("t5", _t5(512, 8, 64, 2048, 6)),
    "google-t5/t5-base": ("t5", _t5(768, 12, 64, 3072, 12)),
    "google-t5/t5-large": ("t5", _t5(1024, 16, 64, 4096, 24)),
    "google-t5/t5-3b": ("t5", _t5(1024, 32, 128, 16384, 24)),
    "google-t5/t5-11b": ("t5", _t5(1024, 128, 128, 65536, 24)),
    "google/t5-v1_1-base": ("t5", _t5(768, 12, 64, 2048, 12, gated=True)),
    "google/t5-v1_1-large": ("t5", _t5(1024, 16, 64, 2816, 24, gated=True)),
    "google/t5-v1_1-xl": ("t5", _t5(2048, 32, 64, 5120, 24, gated=True)),
    "google/t5-v1_1-xxl": ("t5", _t5(4096, 64, 64, 10240, 24, gated=True)),
    "llama-shape/160m": ("llama", _llama(768, 12, 12, 3072)),
    "llama-shape/1b": ("llama", _llama(2048, 22, 32, 5632, 4)),
    "llama-shape/7b": ("llama", _llama(4096, 32, 32, 11008)),
    "llama-shape/13b": ("llama", _llama(5120, 40, 40, 13824)),
    "llama-shape/70b": ("llama", _llama(8192, 80, 64, 28672, 8)),
    # Shapes of 0.1B to 66B from the GPT-3 paper's table 2.1, as GPT-2: for the curve of memory against size.
    "gpt-shape/0.1b": ("gpt2", _gpt2(768, 12, 12)),
    "gpt-shape/0.4b": ("gpt2", _gpt2(1024, 24, 16)),
    "gpt-shape/1.3b": ("gpt2", _gpt2(2048, 24, 16)),
    "gpt-shape/2.7b": ("gpt2", _gpt2(2560, 32, 32)),
    "gpt-shape/6.7b": ("gpt2", _gpt2(4096, 32, 32)),
    "gpt-shape/13b": ("gpt2", _gpt2(5120, 40, 40)),
    "gpt-shape/30b": ("gpt2", _gpt2(7168, 48, 56)),
    "gpt-shape/66b": ("gpt2", _gpt2(9216, 64, 72)),
}
CURVE = (
    ("gpt-shape/0.1b", "gpt-shape/0.1b"),
    ("gpt-shape/0.1b", "gpt-shape/0.4b"),
    ("gpt-shape/0.1b", "gpt-shape/1.3b"),
    ("gpt-shape/0.4b", "gpt-shape/6.7b"),
    ("gpt-shape/1.3b", "gpt-shape/30b"),
    ("gpt-shape/2.7b", "gpt-shape/66b"),
)
"""Pairs (S, L) of the curve from 0.1B to 66B: S has about a tenth to a twentieth of L's size, and at least 0.1B."""


def find_shape(name: str, revision: str | None = None) -> Shape:
    """The sizes of a model.

    Args:
        name: a key of `KNOWN`, a folder with `config.json`, or a hub id (fetches its config).
        revision: of the hub id.

    Raises:
        ModelError: no model of that name, or its family is not supported.
    """
    if name in KNOWN:
        family, config = KNOWN[name]
        if family not in FAMILIES:
            raise ModelError(f"{name} is of family '{family}', which is not here. Families: {', '.join(FAMILIES)}.")
        return Shape(name, family, config())
    from transformers import AutoConfig

    if not Path(name).is_dir() and revision is None:
        raise ModelError(
            unknown("model", name, KNOWN) + " Or give a folder with config.json, or a hub id with its revision."
        )
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"no sizes of {name}: {error}") from error
    found = next((family.name for family in FAMILIES.values() if config.model_type in family.model_types), None)
    if found is None:
        raise ModelError(f"{name} is a '{config.model_type}' model. Families here: {', '.join(FAMILIES)}.")
    return Shape(name, found, config)
