"""The Bridge's forward pass and training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gfpet.lm.families import EMBEDDINGS, find_family, stack_of
from gfpet.lm.models import FrozenModel
from gfpet.lm.modules import KINDS, inserted
from gfpet.lm.scoring import backbone_of, collate
from gfpet.lm.training import Hooks, Settings
from gfpet.method.activation_cache import Plan, recomputed
from gfpet.method.bridge import (
    Ladder,
    Transfer,
    fit_bridge,
    laddered,
    predict_with_bridge,
    selection,
    start_ladder,
)
from gfpet.method.plug import Projection, layer_assignment, projected, spaces_of
from gfpet.method.prune import Bridge, choose, cut, magnitude_importance, reduced_dims
from tests.tiny import END, KIND_NAMES, decoder_dims, encoded, learnable, maps_at, tiny_gpt2, tiny_module, tiny_task

FAMILY = find_family("gpt2")
CPU = torch.device("cpu")


def parts(factor: float, store: str = "full") -> tuple[FrozenModel, Bridge, Ladder, Plan]:
    model = tiny_gpt2(width=16, layers=4)
    dims = FAMILY.dims(model.config)
    less = reduced_dims(dims, factor, "parameters")
    kept = choose(magnitude_importance(model, FAMILY), less, FAMILY)
    bridge = Bridge(cut(model, FAMILY, less, kept), less, kept)
    width = less.width if store == "projected" else 16
    plan = Plan(store, torch.float32, {"decoder": tuple(range(4))}, width, tokens={"decoder": 0})
    return FrozenModel(model), bridge, start_ladder(plan, kept.residual, 0.1, CPU), plan


def transfer_of(kind: str, bridge: Bridge) -> Transfer:
    """A transfer of a smaller model's module to the Bridge, with random maps."""
    small = tiny_gpt2(width=8, layers=2)
    module = tiny_module(kind, small)
    generator = torch.Generator().manual_seed(3)

    def width(space: str, model_width: int) -> int:
        return 4 * model_width if space in ("mlp.down.in", "mlp.up.out") else model_width

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.2

    reads, writes = spaces_of(module)
    maps = Projection(
        reads={s: draw(maps_at(s, 4), width(s, 8), width(s, 16)) for s in sorted(reads)},
        writes={s: draw(maps_at(s, 4), width(s, 16), width(s, 8)) for s in sorted(writes)},
    )
    pairs = layer_assignment("interpolate", {"decoder": 2}, {"decoder": 4})
    dims = decoder_dims(layers=4, width=16, heads=2, head_width=8, ffn=64)
    plugged = Transfer(module, maps, Projection(), pairs, True).in_large()
    return Transfer(module, maps, selection(plugged, FAMILY, bridge.kept, dims), pairs, True)


@pytest.mark.parametrize("store", ["full", "projected"])
def test_an_unpruned_bridge_with_its_ladder_reproduces_the_large_model(store: str) -> None:
    """With r = 1 the ladder mixes in the Bridge's own activations: any gate gives the large model's hidden states."""
    large, bridge, ladder, plan = parts(1.0, store)
    batch = collate(encoded(learnable(4)), pad=END)
    with large.forward_only() as model:
        plain = backbone_of(model, FAMILY)(batch)
    with torch.no_grad(), laddered(bridge.model, FAMILY, ladder) as backbone:
        mixed = backbone(recomputed(large, FAMILY, plan, bridge.kept.residual))(batch)
    torch.testing.assert_close(mixed, plain, rtol=1e-5, atol=1e-5)


def test_the_gate_weighs_bridge_against_large_model() -> None:
    large, bridge, ladder, plan = parts(4.0)
    batch = collate(encoded(learnable(4)), pad=END)
    read = recomputed(large, FAMILY, plan, bridge.kept.residual)
    noise = [torch.zeros_like(read(batch)["decoder"]), read(batch)["decoder"]]

    def states(gate: float, activations: torch.Tensor) -> torch.Tensor:
        rungs = ladder.rungs["decoder"]
        set_gate = replace(ladder, rungs={"decoder": replace(rungs, gate=torch.full_like(rungs.gate, gate))})
        with laddered(bridge.model, FAMILY, set_gate) as backbone:
            return backbone(lambda _: {"decoder": activations})(batch)

    with torch.no_grad():
        # The first block uses the large model's embeddings for any gate: give both the same.
        noise[0][0] = noise[1][0]
        torch.testing.assert_close(states(100.0, noise[0]), states(100.0, noise[1]))
        assert (states(-100.0, noise[0]) - states(-100.0, noise[1])).abs().max() > 0.1


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_selection_is_the_submodule_of_the_plugged_one(kind: str) -> None:
    """The initial `W_down` selects rows and columns; in an unpruned Bridge it changes nothing."""
    _, bridge, _, _ = parts(1.0)
    transfer = transfer_of(kind, bridge)
    for name, tensor in transfer.in_bridge().tensors.items():
        assert torch.equal(tensor, transfer.in_large().tensors[name])
    _, pruned, _, _ = parts(4.0)
    transfer = transfer_of(kind, pruned)
    with torch.no_grad(), inserted(pruned.model, FAMILY, transfer.in_bridge()):
        hidden = backbone_of(pruned.model, FAMILY)(collate(encoded(learnable(2)), pad=END))
    assert torch.isfinite(hidden).all()


@pytest.mark.parametrize("kind", KIND_NAMES)
@pytest.mark.parametrize(("train_bridge", "w_down"), [(True, "learned"), (False, "selection")])
def test_training_changes_what_it_should_and_nothing_else(kind: str, train_bridge: bool, w_down: str) -> None:
    large, bridge, ladder, plan = parts(4.0)
    transfer = replace(transfer_of(kind, bridge), down=w_down)
    data = tiny_task()
    before_large = {name: weight.clone() for name, weight in large._model.named_parameters()}
    before_bridge = {name: weight.clone() for name, weight in bridge.model.named_parameters()}
    before = {name: tensor.clone() for name, tensor in replace(transfer, down="learned").trained.items()}
    read = recomputed(large, FAMILY, plan, bridge.kept.residual)
    losses: list[float] = []

    def log(series: str, _: int, value: float) -> None:
        if series == "loss":
            losses.append(value)

    outcome = fit_bridge(
        bridge, FAMILY, ladder, transfer, data, read, read, Settings(epochs=4, batch_size=6, patience=0, warmup=0.0),
        learning_rate=1e-2, bridge_learning_rate=1e-2, train_bridge=train_bridge, seed=0,
        gradient_checkpointing=False, hooks=Hooks(log=log),
    )  # fmt: skip
    assert outcome.steps == len(losses) == 8
    assert losses[-1] < losses[0]
    large.check()
    for name, weight in large._model.named_parameters():
        assert torch.equal(weight, before_large[name])
    changed = {name for name, weight in bridge.model.named_parameters() if not torch.equal(weight, before_bridge[name])}
    assert bool(changed) == train_bridge
    moved = {
        name
        for name, tensor in replace(transfer, down="learned").trained.items()
        if not torch.equal(tensor, before[name])
    }
    assert any(name.startswith("module/") for name in moved)
    assert any(name.startswith("w_plug/") for name in moved)
    assert any(name.startswith("w_down/") for name in moved) == (w_down == "learned")
    predictions = predict_with_bridge(bridge, FAMILY, ladder, transfer, data.dev, read, batch_size=4, pad=END)
    assert len(predictions.choices) == len(data.dev)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_plug_is_the_small_model_when_both_are_the_same_and_the_maps_are_the_identity(kind: str) -> None:
    model = tiny_gpt2(width=16, layers=4)
    module = tiny_module(kind, model)
    reads, writes = spaces_of(module)

    def eyes(spaces: set[str]) -> dict[str, torch.Tensor]:
        wide = ("mlp.up.out", "mlp.down.in")
        return {
            space: torch.eye(64 if space in wide else 16).repeat(1 if stack_of(space) == EMBEDDINGS else 4, 1, 1)
            for space in spaces
        }

    transfer = Transfer(
        module,
        Projection(eyes(reads), eyes(writes)),
        Projection(),
        layer_assignment("stack", {"decoder": 4}, {"decoder": 4}),
        True,
    )
    batch = collate(encoded(learnable(3)), pad=END)
    with torch.no_grad(), inserted(model, FAMILY, module):
        tuned = backbone_of(model, FAMILY)(batch)
    large = FrozenModel(model)
    with large.forward_only() as frozen, inserted(frozen, FAMILY, transfer.in_large()):
        plugged = backbone_of(frozen, FAMILY)(batch)
    assert torch.equal(plugged, tuned)
    assert projected(module, transfer.w_plug).parameters == KINDS[kind].folded(module).parameters


def test_checkpointing_trains_the_same_bridge() -> None:
    """The ladder runs in hooks, outside of the model's own checkpointing; they must be recomputed, too."""
    found = []
    for again in (False, True):
        large, bridge, ladder, plan = parts(4.0)
        transfer = transfer_of("lora", bridge)
        read = recomputed(large, FAMILY, plan, bridge.kept.residual)
        fit_bridge(
            bridge, FAMILY, ladder, transfer, tiny_task(), read, read, Settings(epochs=1, batch_size=6),
            learning_rate=1e-2, bridge_learning_rate=1e-2, train_bridge=True, seed=0, gradient_checkpointing=again,
            hooks=Hooks(),
        )  # fmt: skip
        found.append([*transfer.trained.values(), *ladder.tensors.values(), *bridge.model.parameters()])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(plain, other)
