"""Prompt tuning (Lester et al. 2021, arXiv:2104.08691): p trained vectors before the input embeddings of the text.

    h_0 = [prompt; embedding(tokens)]  ──► block 0 ──► ... ──► only the text's positions are returned

The target module is the input embedding (stack `embeddings`, one layer); in an encoder-decoder, the encoder's, and
cross-attention then sees the prompt, too. Text positions shift by p, so that the same weights give the same logits in
Hugging Face `peft`.

Plugging: the vectors lie in the embedding space, so the large model's prompt is `P prompt + offset` with the map of
that space. P is fitted on both models' embeddings of the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gfpet.errors import ModuleError
from gfpet.lm.families import EMBEDDINGS, Family, Texts
from gfpet.lm.hooks import forward_hook, forward_pre_hook
from gfpet.lm.modules._kind import Kind, Options, Part, Update, shapes_of
from gfpet.lm.modules._module import PetModule

_PROMPT = f"{EMBEDDINGS}.prompt"


def _targets(_: Family, __: Options) -> tuple[str, ...]:
    return (EMBEDDINGS,)


def _start(model: nn.Module, family: Family, options: Options, texts: Texts, _: torch.Generator) -> PetModule:
    """A prompt initialised with the embeddings of the text's first tokens.

    Shapes: `embeddings.prompt` `[1, length, d]`.

    Raises:
        ModuleError: the text is shorter than the prompt.
    """
    ids, length = texts[family.stacks[0].name].ids[:1], options["length"]
    if ids.shape[1] < length:
        raise ModuleError(
            f"the text that a soft prompt starts from has {ids.shape[1]} tokens; modules.soft_prompt.length={length}."
        )
    with torch.no_grad():
        prompt = model.get_submodule(family.embeddings)(ids[:, :length]).clone()
    return PetModule("soft_prompt", family.name, {EMBEDDINGS: (0,)}, {_PROMPT: prompt})


def _options_of(module: PetModule) -> Options:
    return {"length": shapes_of(module)["prompt"][1]}


def _updates(tensors: Mapping[str, Tensor]) -> dict[str, Update]:
    """`U = promptᵀ`, `V = prompt`; the product ignores the order of the vectors."""
    return {EMBEDDINGS: (tensors[_PROMPT].T, tensors[_PROMPT])}


def _with_ones(mask: Tensor | None, count: int) -> Tensor | None:
    """A mask `[rows, length]` with `count` visible positions put before it."""
    return None if mask is None else torch.cat([mask.new_ones(len(mask), count), mask], dim=1)


def _puts_before(embedding: nn.Module, prompt: Float[Tensor, "p d"]) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        changed, count = dict(kwargs), len(prompt)
        text = changed.get("inputs_embeds")
        if text is None:
            text = embedding(args[0] if args else changed["input_ids"])
        before = prompt.to(text.dtype).expand(len(text), -1, -1)
        changed |= {"input_ids": None, "inputs_embeds": torch.cat([before, text], dim=1)}
        changed["attention_mask"] = _with_ones(changed.get("attention_mask"), count)
        positions = changed.get("position_ids")
        if positions is not None:
            first = positions[:, :1] + torch.arange(count, device=positions.device)
            changed["position_ids"] = torch.cat([first, positions + count], dim=1)
        return args[1:], changed

    return hook


def _leaves_out(count: int) -> Any:
    def hook(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, count:]
        return output

    return hook


def _shows_to_cross_attention(count: int) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "encoder_attention_mask": _with_ones(kwargs.get("encoder_attention_mask"), count)}

    return hook


@contextmanager
def _insert(model: nn.Module, family: Family, module: PetModule) -> Iterator[None]:
    prompt, embedding = module.tensors[_PROMPT][0], model.get_submodule(family.embeddings)
    reader = model.get_submodule(family.embeddings.rpartition(".")[0])
    with ExitStack() as opened:
        opened.enter_context(forward_pre_hook(reader, _puts_before(embedding, prompt)))
        if len(family.stacks) == 1:
            opened.enter_context(forward_hook(reader, _leaves_out(len(prompt))))
        else:
            decoder = model.get_submodule(family.stacks[1].blocks.rpartition(".")[0])
            opened.enter_context(forward_pre_hook(decoder, _shows_to_cross_attention(len(prompt))))
        yield


SOFT_PROMPT = Kind(
    name="soft_prompt",
    parts={"prompt": Part(axis=2, direction="write")},
    targets=_targets,
    start=_start,
    options_of=_options_of,
    insert=_insert,
    updates=_updates,
)
