"""The choice of blocks to keep."""

from __future__ import annotations

import pytest
import torch

from gfpet.errors import ConfigError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.families.llama import LLAMA
from gfpet.lm.models import FrozenModel
from gfpet.lm.scoring import collate
from gfpet.method.derive import block_changes, choose_blocks, count_of, evenly
from tests.tiny import END, VERBALIZER, encoded, tiny_gpt2, tiny_llama

BATCHES = [collate(encoded(VERBALIZER[:3]), pad=END), collate(encoded(VERBALIZER[3:]), pad=END)]


@pytest.mark.parametrize("choice", ["angular", "cka"])
@pytest.mark.parametrize("model", [tiny_gpt2(24, 5), tiny_llama(24, 5)], ids=["gpt2", "llama"])
def test_a_block_that_changes_nothing_goes_first(choice: str, model: torch.nn.Module) -> None:
    family = GPT2 if model.config.model_type == "gpt2" else LLAMA
    with torch.no_grad():
        for target in ("attn.o", "mlp.down"):
            linear = family.linears_of(model, target)[2]
            for parameter in linear.parameters():
                parameter.zero_()
    large = FrozenModel(model)
    changes = block_changes(large, family, BATCHES, choice, tokens=1000)["decoder"]
    assert changes[2] == pytest.approx(0.0, abs=1e-3)
    assert all(0.01 < value <= 1 for value in changes[[0, 1, 3, 4]].tolist())
    assert choose_blocks({"decoder": changes}, 4.0) == {"decoder": (0, 1, 3, 4)}
    assert large.forward_passes == 2


def test_angles_are_those_of_the_residual_stream() -> None:
    changes = block_changes(FrozenModel(tiny_gpt2(24, 3)), GPT2, BATCHES[:1], "angular", tokens=1000)["decoder"]
    with torch.no_grad():
        states = tiny_gpt2(24, 3)(BATCHES[0].texts["decoder"].ids, output_hidden_states=True).hidden_states
    real = BATCHES[0].is_real["decoder"]
    # The final norm is applied to the last hidden state, and not to block 2's output.
    for layer in range(2):
        x, y = states[layer][real], states[layer + 1][real]
        angle = torch.arccos((x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1))).mean() / torch.pi
        assert changes[layer] == pytest.approx(float(angle), abs=1e-5)


@pytest.mark.parametrize("choice", ["angular", "cka"])
def test_only_so_many_tokens_are_looked_at(choice: str) -> None:
    large = FrozenModel(tiny_gpt2(24, 3))
    first = block_changes(large, GPT2, BATCHES, choice, tokens=10)["decoder"]
    assert large.forward_passes == 1
    assert not torch.equal(first, block_changes(large, GPT2, BATCHES, choice, tokens=1000)["decoder"])


def test_the_first_block_always_stays_and_of_equals_the_first() -> None:
    changes = {"decoder": torch.tensor([0.0, 0.3, 0.5, 0.3, 0.1])}
    assert choose_blocks(changes, 1.0) == {"decoder": (0,)}
    assert choose_blocks(changes, 3.0) == {"decoder": (0, 1, 2)}
    assert choose_blocks(changes, 5.0) == {"decoder": (0, 1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("depth", "layers", "kept"),
    [(30, 4.0, (0, 10, 19, 29)), (5, 3.0, (0, 2, 4)), (5, 1.0, (0,)), (4, 4.0, (0, 1, 2, 3)), (6, 2.0, (0, 5))],
)
def test_even_blocks_are_spread_from_the_first_to_the_last(depth: int, layers: float, kept: tuple[int, ...]) -> None:
    assert evenly({"decoder": depth}, layers) == {"decoder": kept}


def test_layers_are_a_part_or_a_number() -> None:
    assert [count_of(layers, 30) for layers in (0.34, 0.01, 1.0, 10.0, 30.0)] == [10, 1, 1, 10, 30]
    with pytest.raises(ConfigError, match=r"derive\.layers is 31, but the large model has 30 blocks"):
        count_of(31.0, 30)
