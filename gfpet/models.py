"""Loading checkpoints: a local folder or a hub id at a fixed revision, safetensors only, never remote code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gfpet.errors import ModelError
from gfpet.families import FAMILIES, Family, Frame, find_family


@dataclass(frozen=True)
class LoadedModel:
    """A model with what is needed to use it."""

    model: nn.Module
    family: Family
    tokenizer: Any
    name: str
    """Where it came from: path, and revision if there is one."""

    @property
    def frame(self) -> Frame | None:
        """How it reads an example, where it is an encoder-decoder."""
        return self.family.frame(self.model.config, self.tokenizer) if self.family.frame else None

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.model.parameters()).device


def find_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ModelError: the device is not there, or the name is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"models.device is '{name}', which is not to be had here ({error}). Allowed: auto, cpu, cuda, cuda:N."
        ) from error
    return device


def load_pretrained(
    family_name: str, path: str, *, revision: str | None, dtype: str, device: torch.device
) -> LoadedModel:
    """A frozen model in evaluation mode without dropout, and its tokenizer.

    Raises:
        ModelError: nothing to load at `path`, a broken checkpoint, one of another family, or no tokenizer of its own.
    """
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    family = find_family(family_name)
    name = path if revision is None else f"{path}@{revision}"
    folder = Path(path)
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or folder.parts[:1] == ("checkpoints",)):
        raise ModelError(f"no checkpoint at {path}: a folder with config.json and model.safetensors is expected there.")
    if not folder.is_dir() and revision is None:
        raise ModelError(
            f"no folder {path}, so it is a hub id, and needs a revision (models.<family>.<size>.revision): "
            "without one, results change when the hub does."
        )
    source: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **source)
        if config.model_type != family.model_type:
            known = ", ".join(sorted(f"{other.name} ({other.model_type})" for other in FAMILIES.values()))
            raise ModelError(
                f"{name} is a '{config.model_type}' model, but family '{family_name}' was asked for. Families: {known}."
            )
        family = family.for_config(config)
        for dropout in family.dropouts:
            setattr(config, dropout, 0.0)
        load: Any = getattr(transformers, family.loader).from_pretrained
        model, report = load(
            path,
            config=config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            **source,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **source)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"cannot load {name}: {error}") from error
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:5])
        raise ModelError(
            f"{name} lacks {len(report['missing_keys'])} weights, among them {missing}: the file is broken."
        )
    # Without its files, transformers makes an empty tokenizer rather than none.
    if not tokenizer(["a"], add_special_tokens=False)["input_ids"][0]:
        raise ModelError(f"{name} has no tokenizer that can read text: tokenizer.json is expected beside its weights.")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(f"{name} has {rows} token embeddings, but its tokenizer {len(tokenizer)} tokens.")
    return LoadedModel(model.to(device).eval().requires_grad_(False), family, tokenizer, name)


def require_same_tokenizer(small: LoadedModel, large: LoadedModel) -> None:
    """The two models must cut text into the same tokens: their activations are compared position by position.

    Raises:
        ModelError: says how the vocabularies differ.
    """
    ours, theirs = small.tokenizer.get_vocab(), large.tokenizer.get_vocab()
    if ours != theirs:
        differ = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        raise ModelError(
            f"{small.name} and {large.name} have different tokenizers ({len(ours)} and {len(theirs)} tokens, "
            f"{len(differ)} differ, e.g. {differ[:3]}). Take two models of one family with one tokenizer."
        )
