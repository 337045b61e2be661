"""Resumable training state in safetensors: the next run resumes a killed one, bit for bit, at its last checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfpet.errors import GfpetError


@dataclass
class Progress:
    """Progress of a training run."""

    epoch: int = 0
    """Finished epochs."""
    batch: int = 0
    """Optimizer steps taken in the current epoch."""
    step: int = 0
    """Optimizer steps in total."""
    best_score: float = float("-inf")
    best_loss: float = float("inf")
    """Held-out loss of the epoch with `best_score`; breaks ties."""
    best_epoch: int = 0
    finished: bool = False


def save_checkpoint(
    path: Path,
    progress: Progress,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state atomically: a kill while writing leaves the previous checkpoint."""
    tensors = {f"parameter/{name}": tensor.detach() for name, tensor in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    _write(path, tensors, {"progress": json.dumps(asdict(progress))})


def load_checkpoint(path: Path, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> Progress:
    """Restore parameters and optimizer; returns the progress.

    Raises:
        GfpetError: the file is broken, or belongs to other parameters.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except Exception as error:  # safetensors raises its own untyped errors
        raise GfpetError(f"cannot read the checkpoint {path}: {error}; delete it to begin anew.") from error
    found = {name.removeprefix("parameter/"): t.shape for name, t in tensors.items() if name.startswith("parameter/")}
    wanted = {name: parameter.shape for name, parameter in parameters.items()}
    if found != wanted:
        differ = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise GfpetError(
            f"the checkpoint {path} is of another training run: {len(differ)} of its parameters differ in name or "
            f"shape, e.g. '{differ[0]}'; delete it to begin anew."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            state = {
                key: tensors[f"optimizer/{key}/{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer/{key}/{name}" in tensors
            }
            if state:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in state.items()
                }
    return progress


class BestValues:
    """The best epoch's values: in a file beside the checkpoint, or in memory without a checkpoint.

    The copy is a quarter of the memory of AdamW training (values, gradients, two moments), and is read only once.
    """

    def __init__(self, parameters: Mapping[str, Tensor], checkpoint: Path | None) -> None:
        self._parameters = parameters
        self._path = None if checkpoint is None else checkpoint.with_suffix(".best")
        self._copies: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Save the current values as the best."""
        if self._path is None:
            self._copies = {name: tensor.detach().cpu().clone() for name, tensor in self._parameters.items()}
        else:
            _write(self._path, {name: tensor.detach() for name, tensor in self._parameters.items()})

    def put_back(self) -> None:
        """Restore the values of the last `keep`.

        Raises:
            GfpetError: the file is missing or broken.
        """
        with torch.no_grad():
            if self._path is None:
                for name, copy in self._copies.items():
                    self._parameters[name].copy_(copy)
                return
            try:
                with safe_open(self._path, framework="pt") as file:
                    for name, parameter in self._parameters.items():
                        parameter.copy_(file.get_tensor(name))
            except Exception as error:  # safetensors raises its own untyped errors
                checkpoint = self._path.with_suffix(".safetensors")
                raise GfpetError(
                    f"cannot read the best epoch's values in {self._path}: {error}; delete {checkpoint} to begin anew."
                ) from error


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial, metadata=metadata)
    partial.replace(path)
