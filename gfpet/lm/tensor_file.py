"""Tensors in a safetensors file, with a JSON description under one metadata key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfpet.errors import ModuleError, NumberError
from gfpet.lm.finite import require_finite

_ABOUT = "gfpet"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a file; the same tensors give the same bytes.

    Args:
        about: the description as JSON values; must include `format`.

    Raises:
        NumberError: a tensor has NaN or infinite values; nothing is written.
    """
    require_finite(tensors, f"{path} was not written")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    # One key only, because safetensors writes several keys in varying order.
    save_file(kept, path, metadata={_ABOUT: json.dumps(about)})


def load_tensors(path: Path, what: str, format_: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: the tensors, and the description.

    Args:
        what: the expected content, for errors: `module`, `readout`.
        format_: the expected format.

    Raises:
        ModuleError: the file is missing, broken, of another format, or has NaN or infinite values.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # safetensors raises its own untyped errors
        raise ModuleError(f"cannot read the {what} {path}: {error}") from error
    found = about.get("format", "none") if isinstance(about, dict) else "none"
    if found != format_:
        raise ModuleError(f"{path} is not a {what} of gfpet: format '{found}', expected '{format_}'.")
    try:
        require_finite(tensors, f"the {what} {path}")
    except NumberError as error:
        raise ModuleError(f"{error} Make the file again.") from error
    return tensors, about
