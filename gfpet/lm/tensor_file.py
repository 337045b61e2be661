"""Tensors in a safetensors file that says what it is, under one metadata key."""

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
        about: JSON values, `format` among them.

    Raises:
        NumberError: a tensor holds NaN or an infinity; nothing is written.
    """
    require_finite(tensors, f"{path} was not written")
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    # One key only: safetensors writes several in an order that changes from call to call.
    save_file(kept, path, metadata={_ABOUT: json.dumps(about)})


def load_tensors(path: Path, what: str, format_: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors, and what the file says of itself.

    Args:
        what: what it should hold, for errors: `module`, `readout`.
        format_: the format that is understood.

    Raises:
        ModuleError: the file is missing, broken, of another format, or holds NaN or infinite values.
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
