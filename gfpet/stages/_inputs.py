"""Loads the inputs of the stage programs: models and prepared examples."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.utils import logging

from gfpet.config import DERIVE, Checkpoint, LargeCheckpoint, Pair, Params, positions_before
from gfpet.errors import ConfigError
from gfpet.lm.models import LoadedModel, find_device, load_pretrained, offloaded
from gfpet.lm.scoring import TaskData, load_task

OUTPUTS = Path("outputs")
_CUT_TOLD = 0.01
"""A stage warns if more than this share of contexts is cut."""


def checkpoint_of(params: Params, family: str, role: Literal["small", "large"]) -> Checkpoint:
    """The section `models.<family>.<role>`."""
    pair: Pair = getattr(params.models, family)
    return pair.small if role == "small" else pair.large


def load_model(
    params: Params, family: str, role: Literal["small", "large"], *, dtype: str | None = None
) -> LoadedModel:
    """Load one model of a pair. Also sets the number of threads, since sums of floats depend on it.

    Args:
        dtype: overrides the checkpoint's setting.

    Raises:
        ModelError: the checkpoint or the device is unsuitable.
        ConfigError: rows, with the positions that a module puts before them, exceed the model's positions.
    """
    torch.set_num_threads(params.models.threads)
    # transformers warns of padding without a mask. None is needed: rows are padded on the right, decoders are causal.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    source = checkpoint_of(params, family, role)
    path = source.path
    if path == DERIVE:
        path = str(derived_folder(family) / "small")
        if not Path(path).is_dir():
            raise ConfigError(f"models.{family}.small.path is '{DERIVE}', but {path} is not there; run stage derive.")
    loaded = load_pretrained(
        family,
        path,
        revision=source.revision,
        dtype=dtype or source.dtype,
        device=find_device(params.models.device),
        **(_placement(source) if isinstance(source, LargeCheckpoint) else {}),
    )
    if kept := offloaded(loaded.model):
        # Tell the user: offload may be slow. On standard error, like a stage's own lines.
        print(f"parts of {loaded.name} on {', '.join(f'{k}: {n}' for k, n in kept.items())}", file=sys.stderr)
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    key, before = positions_before(params)
    if positions is not None and params.models.max_length + before > positions:
        together = f" and {key}={before} together are" if key else " is"
        raise ConfigError(
            f"models.max_length={params.models.max_length}{together} more than the {positions} positions of "
            f"{loaded.name}; lower models.max_length to {positions - before} or less."
        )
    return loaded


def _placement(source: LargeCheckpoint) -> dict[str, Any]:
    return {
        "device_map": source.device_map,
        "memory": None if source.memory_gb is None else int(source.memory_gb * 1e9),
        "quantisation": source.quantisation,
        "offload_folder": Path(".work") / "offload",
    }


def derived_folder(family: str) -> Path:
    """The output folder of stage `derive`."""
    return OUTPUTS / "derive" / family


def load_examples(params: Params, task: str, loaded: LoadedModel) -> TaskData:
    """The task's prepared examples in the model's tokens; warns if contexts are cut at `models.max_length`."""
    data = load_task(
        OUTPUTS / "prepare" / task,
        task,
        loaded.tokenizer,
        max_length=params.models.max_length,
        template=loaded.template,
    )
    cut = {name: share for name, share in data.cut_shares.items() if share > _CUT_TOLD}
    if cut:
        shares = ", ".join(f"{100 * share:.0f} % of {name}" for name, share in cut.items())
        print(
            f"warning: {task}: contexts longer than models.max_length={params.models.max_length} tokens lost their "
            f"beginning: {shares}. Raise models.max_length, or read the scores as those of shortened texts.",
            file=sys.stderr,
        )
    return data
