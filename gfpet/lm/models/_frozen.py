"""The large model, forward only: it never has a gradient, a trainable parameter or an autograd graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from gfpet.errors import FrozenModelError


class FrozenModel:
    """Holds a model that may only ever run forward.

    A hook on the model checks every single forward pass, however it is reached: a trainable parameter, a gradient, or
    autograd that would record raises `FrozenModelError` before anything is computed. `forward_passes` and
    `forward_rows` count what the model was asked.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.grad = None
        self.forward_passes = 0
        """Calls of the model."""
        self.forward_rows = 0
        """Sequences over all calls."""
        # Callers reach the whole model, its backbone or its head: each is guarded. So is every part of them, but
        # only against autograd, since looking through all parameters at every part would take long.
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
        """The model, inside `torch.inference_mode`; checked before and after.

        Raises:
            FrozenModelError: the model was, or has become, trainable.
        """
        self.check()
        with torch.inference_mode():
            yield self._model
        self.check()

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.check()
        _require_inference_mode(module, args)
        ids = kwargs.get("input_ids", args[0] if args else None)
        # Every forward pass ends in the decoder, whichever part was called.
        if module is self._counted and isinstance(ids, torch.Tensor) and not ids.is_floating_point():
            self.forward_passes += 1
            self.forward_rows += ids.shape[0]


def _require_inference_mode(_: nn.Module, __: tuple[Any, ...]) -> None:
    if not torch.is_inference_mode_enabled():
        raise FrozenModelError(
            "the large model was called outside of inference mode, where autograd could record a graph; "
            "use `with frozen.forward_only() as model:`."
        )
