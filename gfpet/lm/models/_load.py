"""Loading checkpoints: a folder, a GGUF file, or a hub id at a fixed revision. Never pickles or remote code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from gfpet.errors import GfpetError, ModelError
from gfpet.lm.families import FAMILIES, Family, Template, find_family
from gfpet.lm.finite import is_finite
from gfpet.lm.models._gguf import apply_scaling, open_gguf, require_all_read
from gfpet.lm.models._memory import require_memory
from gfpet.lm.models._placement import keep_layout, place, quantiser
from gfpet.lm.models._source import Source, find_source


@dataclass(frozen=True)
class LoadedModel:
    """A model with its family and tokenizer."""

    model: nn.Module
    family: Family
    tokenizer: Any
    name: str
    """Its path, and its revision if there is one; for messages."""

    @property
    def template(self) -> Template | None:
        """The template of an encoder-decoder; None for a decoder-only model."""
        return self.family.template(self.model.config, self.tokenizer) if self.family.template else None

    @property
    def device(self) -> torch.device:
        """Device of its first weight."""
        return next(self.model.parameters()).device


def load_pretrained(
    family_name: str,
    path: str,
    *,
    revision: str | None,
    dtype: str,
    device: torch.device,
    device_map: Literal["single", "auto"] = "single",
    memory: int | None = None,
    quantisation: str = "none",
    offload_folder: Path | None = None,
) -> LoadedModel:
    """A frozen model in evaluation mode without dropout, and its tokenizer.

    Args:
        path: a `save_pretrained` folder with safetensors, a `.gguf` file, or a hub id.
        device_map: `auto` offloads to CPU memory and disk what does not fit on the device; for forward passes only.
        memory: with `auto`, bytes that the weights may take on the device; None takes nine tenths of the free memory.
        quantisation: `none`, `int8` or `int4`.
        offload_folder: with `auto`, the folder for disk-offloaded weights that are not in a safetensors file already.

    Raises:
        ModelError: there is nothing to load at `path`, or the checkpoint is broken, of another family, too large, or
            without a tokenizer.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    family, source = find_family(family_name), find_source(path, revision)
    name, torch_dtype = source.name, getattr(torch, dtype)
    _require_one_model(source)
    reader = open_gguf(Path(source.where) / source.gguf) if source.gguf else None
    try:
        config = transformers.AutoConfig.from_pretrained(source.where, **source.arguments)
        _require_family(config, family, name)
        if reader is not None:
            apply_scaling(reader, config, name)
        family = family.for_config(config)
        auto: Any = getattr(transformers, family.loader)
        for dropout in family.dropouts:
            setattr(config, dropout, 0.0)
        with torch.device("meta"):
            empty = auto.from_config(config)
        if reader is not None:
            require_all_read(reader, empty, name)
        placement = place(empty, family, torch_dtype, device, memory) if device_map == "auto" else None
        if placement is None or source.gguf:  # transformers dequantises a whole GGUF file in CPU memory
            where = torch.device("cpu") if source.gguf else device
            require_memory(name, empty, torch_dtype, quantisation, where)
        # Fail early: the weights may take minutes to read.
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.where, **source.arguments)
        quantisation_config = quantiser(quantisation, torch_dtype)
        model, report = auto.from_pretrained(
            source.where,
            config=config,
            dtype=torch_dtype,
            use_safetensors=None if source.gguf else True,
            attn_implementation="sdpa",
            output_loading_info=True,
            device_map=placement if placement or not quantisation_config else {"": str(device)},
            offload_folder=offload_folder,
            quantization_config=quantisation_config,
            **source.arguments,
        )
        keep_layout(model)
    except GfpetError:
        raise
    except Exception as error:
        # A broken GGUF file can make its reader raise anything. Otherwise, any other error is a bug of ours.
        if source.gguf or isinstance(error, OSError | ValueError | RuntimeError | ImportError | SafetensorError):
            raise ModelError(_what_broke(source, error)) from error
        raise
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        raise ModelError(
            f"{name} lacks {len(report['missing_keys'])} weights, among them {missing}: the file is broken."
        )
    if report["unexpected_keys"]:
        extra = ", ".join(sorted(report["unexpected_keys"])[:5])
        raise ModelError(
            f"{name} holds {len(report['unexpected_keys'])} weights that its config.json has no place for, among them "
            f"{extra}: config.json describes another model (its model_type, its number of layers, its biases?). Take "
            "the config.json that belongs to the weights."
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(_two_models(name))
    _require_finite_weights(model, name, dtype)
    # Without tokenizer files, transformers makes an empty tokenizer instead of raising.
    if not tokenizer(["a"], add_special_tokens=False)["input_ids"][0]:
        raise ModelError(f"{name} has no tokenizer that can read text: tokenizer.json is expected beside its weights.")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(f"{name} has {rows} token embeddings, but its tokenizer {len(tokenizer)} tokens.")
    if placement is None and quantisation_config is None:
        model = model.to(device)
    return LoadedModel(model.eval().requires_grad_(False), family, tokenizer, name)


def _require_one_model(source: Source) -> None:
    """Raise if an adapter lies beside the model: transformers would apply it, even to weights that include it."""
    if (Path(source.where) / "adapter_config.json").is_file():
        raise ModelError(_two_models(source.name))


def _two_models(name: str) -> str:
    return (
        f"{name} holds a model and a peft adapter (adapter_config.json), and transformers would apply the adapter on "
        "top. If it is merged into the weights, move the adapter's files away; if not, merge it first."
    )


def _require_finite_weights(model: nn.Module, name: str, dtype: str) -> None:
    broken = next(
        (key for key, weight in model.named_parameters() if not weight.is_meta and not is_finite(weight)), None
    )
    if broken:
        raise ModelError(
            f"{name}: weight '{broken}' holds NaN or infinite values in {dtype}. "
            + (
                "float16 holds at most 65504: load it as bfloat16 or float32."
                if dtype == "float16"
                else "The file is broken."
            )
        )


def _require_family(config: Any, family: Family, name: str) -> None:
    if config.model_type in family.model_types:
        return
    known = ", ".join(sorted(f"{other.name} ({', '.join(other.model_types)})" for other in FAMILIES.values()))
    raise ModelError(
        f"{name} is a '{config.model_type}' model, but family '{family.name}' was asked for. Families: {known}."
    )


def _what_broke(source: Source, error: Exception) -> str:
    """Error text for an error of the loader."""
    unknown = re.search(r"GGUF model with architecture (\S+) is not supported", str(error))
    if unknown:
        from transformers import __version__
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

        # The table also lists the sections that every file has.
        readable = ", ".join(sorted({*GGUF_SUPPORTED_ARCHITECTURES} - {"general", "tokenizer"}))
        return (
            f"{source.name} is a GGUF file of architecture '{unknown[1]}', which transformers {__version__} cannot "
            f"read. It reads {readable}; families of gfpet: {', '.join(sorted(FAMILIES))}. Take a GGUF of one of "
            "those, or the model's safetensors."
        )
    return f"cannot load {source.name}: {error or type(error).__name__}"


_PROBES = (
    "Question: is it true? Answer: Yes",
    "The quick brown fox  jumps over\n\nthe lazy dog, doesn't it?",
    "1234567890 3.14159 2,718 0x1F 10:45 p.m. (2023-12-06)",
    "naïve café, Zürich, Ελλάδα, Москва, 北京, 東京, العربية, \U0001f600",
    "def f(x):\n\treturn x ** 2  # squared",
    "unbelievably internationalization antidisestablishmentarianism",
)
_PROBED = 20_000
"""About this many tokens, evenly spread over the vocabulary, are also decoded and tokenised again."""


def require_same_tokenizer(small: LoadedModel, large: LoadedModel) -> None:
    """Raise unless both models tokenise text identically: their activations are compared position by position.

    This compares tokenised texts, not vocabularies, because a vocabulary may be padded with unused tokens.

    Raises:
        ModelError: shows a text that they tokenise differently.
    """
    names = sorted(small.tokenizer.get_vocab().items(), key=lambda item: item[1])
    probed = [name for name, _ in names[:: max(1, len(names) // _PROBED)]]
    words = [small.tokenizer.convert_tokens_to_string([name]) for name in probed]
    parts = [words[start : start + 50] for start in range(0, len(words), 50)]
    texts = [*_PROBES, *(between.join(part) for between in (" ", "") for part in parts)]
    ours, theirs = (each.tokenizer(texts)["input_ids"] for each in (small, large))
    for text, one, other in zip(texts, ours, theirs, strict=True):
        if list(one) != list(other):
            at = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), 0)
            cuts = [
                each.tokenizer.convert_ids_to_tokens(ids[at : at + 4]) for each, ids in ((small, one), (large, other))
            ]
            raise ModelError(
                f"{small.name} and {large.name} have different tokenizers: of {text[:60]!r} the first reads {cuts[0]} "
                f"where the second reads {cuts[1]}. Take two models of one family with one tokenizer."
            )
