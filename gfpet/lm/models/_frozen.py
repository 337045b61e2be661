"""The large model, forward only: no gradient, no trainable parameter, no autograd graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gfpet.errors import FrozenModelError


class FrozenModel:
    """Holds a model that may only run forward.

    Hooks check every forward pass, also of a part of the model. They raise `FrozenModelError` before any computation
    if a parameter is trainable, has a gradient, or autograd would record. `forward_passes` and `forward_rows` count
    the forward passes.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.grad = None
        self.forward_passes = 0
        """Number of forward passes."""
        self.forward_rows = 0
        """Number of sequences over all forward passes."""
        # Callers use the whole model, its backbone or its head, so each gets the full check. Inner parts only check
        # for inference mode: a scan of all parameters at every part would be slow.
        whole = (model, *model.children())
        get_decoder = getattr(model, "get_decoder", None)
        self._counted = get_decoder() if get_decoder else model
        for module in whole:
            module.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        for module in set(model.modules()).difference(whole):
            module.register_forward_pre_hook(_require_inference_mode)

    def check(self) -> None:
        """Raise unless no parameter is trainable and none has a gradient.

        Raises:
            FrozenModelError: names the first offending parameter.
        """
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                raise FrozenModelError(
                    f"the large model's parameter '{name}' is trainable (requires_grad=True); the large model only "
                    "runs forward. Train the small model, the Bridge or a module instead."
                )
            if parameter.grad is not None:
                raise FrozenModelError(
                    f"the large model's parameter '{name}' has a gradient; something ran a backward pass through it."
                )

    @contextmanager
    def forward_only(self) -> Iterator[nn.Module]:
        """The model inside `torch.inference_mode`, checked before and after.

        Raises:
            FrozenModelError: before or after, a parameter is trainable or has a gradient.
        """
        self.check()
        with torch.inference_mode():
            yield self._model
        self.check()

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.check()
        _require_inference_mode(module, args)
        ids = kwargs.get("input_ids", args[0] if args else None)
        # Count in the decoder only: every forward pass, of the model or its backbone, runs it once.
        if module is self._counted and isinstance(ids, torch.Tensor) and not ids.is_floating_point():
            self.forward_passes += 1
            self.forward_rows += ids.shape[0]


def _require_inference_mode(_: nn.Module, __: tuple[Any, ...]) -> None:
    if not torch.is_inference_mode_enabled():
        raise FrozenModelError(
            "the large model was called outside of inference mode, where autograd could record a graph; "
            "use `with frozen.forward_only() as model:`."
        )
