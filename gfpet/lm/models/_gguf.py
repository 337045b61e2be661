"""GGUF keys and tensors that transformers does not read although they change the computation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from gfpet.errors import ModelError

_SCALING = ".rope.scaling."
_UNREAD_KEYS = (".attention.scale", ".attn_logit_softcapping", ".embedding_scale", ".logit_scale", ".residual_scale")
"""Keys of other architectures that multiply or cap activations."""


def open_gguf(path: Path) -> Any:
    """A reader of the file's keys and tensors; the tensors stay on disk.

    Raises:
        ModelError: the file is broken.
    """
    from gguf import GGUFReader

    try:
        return GGUFReader(str(path))
    except Exception as error:  # a broken file can make the reader raise anything
        raise ModelError(f"cannot load {path}: {error or type(error).__name__}") from error


def apply_scaling(reader: Any, config: Any, name: str) -> None:
    """Copy the scaling of rotary positions, which transformers does not read, into the model's configuration.

    Raises:
        ModelError: the scaling is not linear, or has no factor.
    """
    values = {key.partition(_SCALING)[2]: _value(field) for key, field in reader.fields.items() if _SCALING in key}
    kind = values.get("type", "linear" if "factor" in values else "none")
    if kind == "none":
        return
    if kind != "linear" or "factor" not in values:
        raise ModelError(
            f"{name} scales its rotary positions by '{kind}' ({_listed(values)}), which transformers does not read "
            "from a GGUF file: the model would compute something else. Take its safetensors."
        )
    rope = dict(getattr(config, "rope_parameters", None) or {})
    config.rope_parameters = {**rope, "rope_type": "linear", "factor": float(values["factor"])}


def require_all_read(reader: Any, model: nn.Module, name: str) -> None:
    """Raise unless the model has a place for every tensor of the file, and transformers reads every relevant key.

    Args:
        model: made from the file's configuration; its weights may be on the meta device.

    Raises:
        ModelError: names the unread keys or tensors.
    """
    from transformers import modeling_gguf_pytorch_utils

    gguf: Any = modeling_gguf_pytorch_utils

    keys = [key for key in reader.fields if key.endswith(_UNREAD_KEYS)]
    if keys:
        raise ModelError(f"{name} has {_listed(keys)}, which transformers does not read: take its safetensors.")
    architecture = str(_value(reader.fields["general.architecture"]))
    processor = gguf.TENSOR_PROCESSORS.get(architecture, gguf.TensorProcessor)(config={})
    known = gguf.get_gguf_hf_weights_map(model, processor)
    unread = sorted(tensor.name for tensor in reader.tensors if tensor.name not in known)
    if unread:
        raise ModelError(
            f"{name} holds {len(unread)} tensors that its configuration has no place for, among them "
            f"{', '.join(unread[:5])}: without them the model computes something else. Take its safetensors, or a GGUF "
            "file made for this architecture."
        )


def _value(field: Any) -> Any:
    return field.contents()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
