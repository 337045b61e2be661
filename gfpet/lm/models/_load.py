"""Loading checkpoints: a folder, a GGUF file, or a hub id at a fixed revision; never pickles, never remote code."""

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
    """A model with what is needed to use it."""

    model: nn.Module
    family: Family
    tokenizer: Any
    name: str
    """Where it came from: path, and revision if there is one."""

    @property
    def template(self) -> Template | None:
        """How it reads an example, where it is an encoder-decoder."""
        return self.family.template(self.model.config, self.tokenizer) if self.family.template else None

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
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
        path: folder in the `save_pretrained` form with safetensors, a file that ends in `.gguf`, or a hub id.
        device_map: `auto` keeps what does not fit on the device in CPU memory and on disk; for forward passes only.
        memory: with `auto`, bytes that the weights may take of the device; None: what is free but a tenth.
        quantisation: `none`, `int8` or `int4`.
        offload_folder: with `auto`, for weights that are not in a safetensors file already.

    Raises:
        ModelError: nothing to load at `path`, a broken checkpoint, one of another family, one that is too large, or no
            tokenizer of its own.
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
        # Before the weights, which may take minutes to read.
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.where, **source.arguments)
        auto: Any = getattr(transformers, family.loader)
        for dropout in family.dropouts:
            setattr(config, dropout, 0.0)
        with torch.device("meta"):
            empty = auto.from_config(config)
        if reader is not None:
            require_all_read(reader, empty, name)
        spread = place(empty, family, torch_dtype, device, memory) if device_map == "auto" else None
        if spread is None or source.gguf:  # transformers unpacks a GGUF file in CPU memory, whole
            where = torch.device("cpu") if source.gguf else device
            require_memory(name, empty, torch_dtype, quantisation, where)
        packed = quantiser(quantisation, torch_dtype)
        model, report = auto.from_pretrained(
            source.where,
            config=config,
            dtype=torch_dtype,
            use_safetensors=None if source.gguf else True,
            attn_implementation="sdpa",
            output_loading_info=True,
            device_map=spread if spread or not packed else {"": str(device)},
            offload_folder=offload_folder,
            quantization_config=packed,
            **source.arguments,
        )
        keep_layout(model)
    except GfpetError:
        raise
    except Exception as error:
        # A broken GGUF file makes its reader fail in any way; elsewhere other errors are ours, and stay as they are.
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
    # Without its files, transformers makes an empty tokenizer rather than none.
    if not tokenizer(["a"], add_special_tokens=False)["input_ids"][0]:
        raise ModelError(f"{name} has no tokenizer that can read text: tokenizer.json is expected beside its weights.")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(f"{name} has {rows} token embeddings, but its tokenizer {len(tokenizer)} tokens.")
    if spread is None and packed is None:
        model = model.to(device)
    return LoadedModel(model.eval().requires_grad_(False), family, tokenizer, name)


def _require_one_model(source: Source) -> None:
    """A folder that holds an adapter beside a model: transformers would apply it, also to weights it is merged into."""
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
    """What a loader's error means to the user."""
    unknown = re.search(r"GGUF model with architecture (\S+) is not supported", str(error))
    if unknown:
        from transformers import __version__
        from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

        # The table also has the sections that every file has.
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
"""Tokens of the vocabulary, evenly spread, whose text is cut again, too."""


def require_same_tokenizer(small: LoadedModel, large: LoadedModel) -> None:
    """The two models must cut text into the same tokens: their activations are compared position by position.

    What counts is how text is cut, not the tables: a vocabulary may be padded with names that no text has.

    Raises:
        ModelError: shows a text that they cut differently.
    """
    names = sorted(small.tokenizer.get_vocab().items(), key=lambda item: item[1])
    spread = [name for name, _ in names[:: max(1, len(names) // _PROBED)]]
    words = [small.tokenizer.convert_tokens_to_string([name]) for name in spread]
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
