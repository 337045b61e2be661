"""Tiny models, tokenizer and examples for tests, all from fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from gfpet.data.examples import Example
from gfpet.lm import registry
from gfpet.lm.families import EMBEDDINGS, Dims, Family, Padded, StackDims, stack_of
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.models import LoadedModel
from gfpet.lm.modules import KINDS, PetModule
from gfpet.lm.scoring import Split, TaskData, encode

VOCABULARY = 257
END = 256


class ByteTokenizer:
    """One token per byte, and one for the end of a text."""

    eos_token_id = END
    pad_token_id = None

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:  # noqa: ARG002
        return {"input_ids": [list(text.encode()) for text in texts]}

    def get_vocab(self) -> dict[str, int]:
        return {chr(byte): byte for byte in range(VOCABULARY)}


def tiny_gpt2(
    width: int = 16, layers: int = 2, *, heads: int = 2, seed: int = 0, positions: int = 64
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights, large enough for every part to affect the output."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        attn_implementation="sdpa",
        bos_token_id=END,
        eos_token_id=END,
    )
    model = GPT2LMHeadModel(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + float(is_gain))
    return model.eval().requires_grad_(False)


def tiny_llama(
    width: int = 16,
    layers: int = 2,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    head_width: int = 8,
    seed: int = 0,
    kind: str = "llama",
    **options: Any,
) -> nn.Module:
    """A Llama-like model with grouped heads and random weights; the heads' total width differs from the model's.

    Args:
        kind: `config.model_type`: `llama`, `qwen2` (biases on queries, keys and values), `qwen3`, `mistral`.
    """
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        max_position_embeddings=256,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_width,
        attn_implementation="sdpa",
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        **options,
    )
    model: Any = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "norm" in name
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + float(is_gain))
    frozen: nn.Module = model.eval().requires_grad_(False)
    return frozen


def tiny_loaded(width: int = 16, layers: int = 2, *, seed: int = 0) -> LoadedModel:
    return LoadedModel(tiny_gpt2(width, layers, seed=seed), GPT2, ByteTokenizer(), f"tiny-{width}x{layers}")


def some_ids(rows: int = 3, length: int = 7, *, seed: int = 1) -> Tensor:
    return torch.randint(0, END, (rows, length), generator=torch.Generator().manual_seed(seed))


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits `[rows, length, vocabulary]`, with explicit positions as in gfpet."""
    positions = torch.arange(ids.shape[1])[None]
    logits: Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return logits


def shaken(module: PetModule, seed: int = 5, size: float = 0.3) -> PetModule:
    """The module with noise on every tensor, so that every part has an effect."""
    generator = torch.Generator().manual_seed(seed)
    return module.with_tensors(
        {
            name: tensor + torch.randn(tensor.shape, generator=generator) * size
            for name, tensor in sorted(module.tensors.items())
        }
    )


KIND_NAMES = registry.KIND_NAMES
_TINY_OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 3, "alpha": 6.0, "target_modules": ("attn.q", "attn.v", "attn.o", "mlp.up", "mlp.down")},
    "adapter": {"bottleneck": 4, "target_modules": ("attn.o", "mlp.down")},
}


def tiny_options(kind: str) -> dict[str, Any]:
    """Options of a kind for tiny models: the registry's defaults, with small counts."""
    defaults = registry.KINDS[kind].options
    return _TINY_OPTIONS.get(kind) or {
        name: min(value, 4) if isinstance(value, int) else value for name, value in defaults.items()
    }


def maps_at(space: str, layers: int) -> int:
    """Number of maps of an activation space: one for each layer with a module."""
    return 1 if stack_of(space) == EMBEDDINGS else layers


def tiny_module(
    kind: str, model: nn.Module, *, seed: int = 5, family: Family = GPT2, options: dict[str, Any] | None = None
) -> PetModule:
    """A module of a kind that changes the model's output."""
    texts = {stack.name: Padded(some_ids(1, 7, seed=seed), (7,)) for stack in family.stacks}
    with torch.inference_mode():  # a frozen model runs in inference mode only
        options = options or tiny_options(kind)
        module = KINDS[kind].start(model, family, options, texts, torch.Generator().manual_seed(seed))
    # Starts from text are much alike.
    return shaken(module, seed, size=0.3 if registry.KINDS[kind].positions is None else 1.0)


VERBALIZER = [
    Example(
        f"v/{number}",
        text,
        ("y", "n"),
        ("yes", "no"),
        (number % 2,),
    )
    for number, text in enumerate(("abc", "a longer one", "zz top", "hello there", "q", "some more words"))
]
"""Candidates of one token each."""
RANKING = [
    Example("r/0", "the cat", (" sat", " ran off", " is"), ("0", "1", "2"), (1,)),
    Example("r/1", "a dog and a", (" b", " bone!"), ("0", "1"), (0, 1)),
    Example("r/2", "x", ("yy", "zzz", " w", " u", " long candidate"), ("0", "1", "2", "3", "4"), (2, 4)),
]
"""Candidates of several tokens."""


def encoded(examples: Sequence[Example], max_length: int = 40):  # type: ignore[no-untyped-def]
    return encode(list(examples), ByteTokenizer(), max_length=max_length)


def learnable(count: int, seed: int = 0) -> list[Example]:
    """Examples whose answer is a letter of the context: a module learns them in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    examples = []
    for number in range(count):
        letters = torch.randint(97, 123, (4,), generator=generator).tolist()
        right = number % 2
        text = "".join(map(chr, letters)) + "ab"[right]
        examples.append(Example(f"l/{seed}/{number}", text, ("y", "n"), ("Yes", "No"), (right,)))
    return examples


def tiny_task(train: int = 12, dev: int = 6) -> TaskData:
    """A task in the shape of RTE."""
    splits = [Split(rows, encoded(rows)) for rows in (learnable(train), learnable(dev, 1), learnable(dev, 2))]
    return TaskData("rte", *splits, pad=END)


def decoder_dims(*, width: int, **sizes: int) -> Dims:
    """Dimensions of a decoder without grouped heads."""
    return Dims(width, {"decoder": StackDims(kv_heads=sizes["heads"], **sizes)})


def save_checkpoint_folder(
    folder: Path, model: nn.Module, *, extra_tokens: Sequence[str] = (), alphabet: slice = slice(None)
) -> Path:
    """Write a checkpoint in the `save_pretrained` form, with a real byte-level tokenizer."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = [*sorted(ByteLevel.alphabet())[alphabet], "<|endoftext|>", *extra_tokens]
    tokenizer = GPT2TokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder
