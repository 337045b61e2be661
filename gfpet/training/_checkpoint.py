"""Resumable training state in safetensors: a killed run goes on bit for bit where its last checkpoint was."""

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
    """Where a training run stands."""

    epoch: int = 0
    """Epochs that are over."""
    batch: int = 0
    """Optimizer steps taken in the epoch under way."""
    step: int = 0
    """Optimizer steps in all."""
    best_score: float = float("-inf")
    best_loss: float = float("inf")
    """Held-out loss beside `best_score`; breaks ties."""
    best_epoch: int = 0
    finished: bool = False


def save_checkpoint(
    path: Path,
    progress: Progress,
    parameters: Mapping[str, Tensor],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state in one piece: a kill in the middle leaves the one before."""
    tensors = {f"parameter/{name}": tensor.detach() for name, tensor in parameters.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        partial,
        metadata={"progress": json.dumps(asdict(progress))},
    )
    partial.replace(path)


def load_checkpoint(
    path: Path, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[Progress, dict[str, Tensor]]:
    """Put parameters and optimizer back as they were; returns the progress and the best parameters so far.

    Raises:
        GfpetError: the file is broken, or does not belong to these parameters.
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
    best = {name.removeprefix("best/"): tensor for name, tensor in tensors.items() if name.startswith("best/")}
    return progress, best
