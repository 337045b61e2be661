"""A readout gives the same output in training, on cached activations, and in L, which never has a gradient."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfpet.errors import ConfigError, ModuleError
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.scoring import EncodedExample, Predictions, TaskData, backbone_of, batches, head_of, predict
from gfpet.lm.training import Settings
from gfpet.method.readout import (
    Readout,
    ReadoutInputs,
    fit_readout,
    layers_to_read,
    read_large,
    start_readout,
    with_readout,
)
from gfpet.method.readout._train import _cached
from tests.tiny import END, RANKING, VERBALIZER, encoded, tiny_loaded, tiny_module, tiny_task
from tests.tiny_t5 import encoded_t5, tiny_loaded_t5, tiny_task_t5

FAMILIES = {
    "gpt2": (lambda: tiny_loaded(16, 4), encoded, lambda: tiny_task(24, 8)),
    "t5": (lambda: tiny_loaded_t5(16, (2, 3)), encoded_t5, lambda: tiny_task_t5(24, 8)),
}


def fresh(loaded: LoadedModel, count: int = 8, *, noise: float = 0.0) -> Readout:
    """A new readout; noise on every tensor gives every part an effect."""
    dims = loaded.family.dims(loaded.model.config)
    generator = torch.Generator().manual_seed(3)
    readout = start_readout(
        layers_to_read(dims, count), dims.width, bottleneck=8, heads=2, head_width=4, generator=generator
    )
    tensors = {
        name: tensor + torch.randn(tensor.shape, generator=generator) * noise
        for name, tensor in sorted(readout.tensors.items())
    }
    return replace(readout, tensors=tensors)


def read(loaded: LoadedModel, rows: list[EncodedExample], readout: Readout, folder: Path, **more: int) -> ReadoutInputs:
    width = loaded.family.dims(loaded.model.config).width
    return read_large(
        rows,
        FrozenModel(loaded.model),
        loaded.family,
        readout.layers_read,
        width,
        folder,
        **{"dtype": torch.float32, "budget": 10**9, "batch_size": 3, **more},
        pad=END if loaded.family.name == "gpt2" else 0,
        device=torch.device("cpu"),
    )


def plugged(loaded: LoadedModel, rows: list[EncodedExample], readout: Readout, batch_size: int = 2) -> Predictions:
    pad = END if loaded.family.name == "gpt2" else 0
    with FrozenModel(loaded.model).forward_only() as model, with_readout(model, loaded.family, readout) as backbone:
        return predict(rows, backbone, head_of(model), batch_size=batch_size, pad=pad)


def scores(predictions: Predictions) -> Tensor:
    return torch.tensor([score for line in predictions.scores for score in line])


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_trained_is_what_runs(family: str, tmp_path: Path) -> None:
    make, encode, _ = FAMILIES[family]
    loaded = make()
    rows, readout = encode(VERBALIZER + RANKING), fresh(loaded, noise=0.3)
    inputs = read(loaded, rows, readout, tmp_path)
    pad = END if family == "gpt2" else 0
    on_cache = predict(rows, _cached(readout, inputs), head_of(loaded.model), batch_size=4, pad=pad)
    there = plugged(loaded, rows, readout)
    torch.testing.assert_close(scores(there), scores(on_cache), rtol=1e-4, atol=1e-4)
    plain = predict(rows, backbone_of(loaded.model, loaded.family), head_of(loaded.model), batch_size=4, pad=pad)
    assert (scores(plain) - scores(there)).abs().max() > 0.1


def test_at_the_start_nothing_is_written() -> None:
    loaded = tiny_loaded(16, 4)
    rows = encoded(VERBALIZER + RANKING)
    plain = predict(rows, backbone_of(loaded.model, loaded.family), head_of(loaded.model), batch_size=2, pad=END)
    assert scores(plugged(loaded, rows, fresh(loaded))).equal(scores(plain))


def test_a_read_does_not_see_what_comes_after_it() -> None:
    """Otherwise a candidate's tokens would be predicted from themselves."""
    loaded = tiny_loaded(16, 4)
    readout = fresh(loaded, noise=0.3)
    _, batch = next(batches(encoded(RANKING), size=3, pad=END))
    streams = {"decoder": torch.randn(5, *batch.texts["decoder"].ids.shape, 16, generator=torch.Generator())}
    before = readout(streams, batch)
    for read_number, (row, position) in enumerate(zip(batch.read_row, batch.read_position, strict=True)):
        changed = streams["decoder"].clone()
        changed[:, row, int(position) + 1 :] += 1.0
        assert readout({"decoder": changed}, batch)[read_number].equal(before[read_number])
        changed[:, row, 0] += 1.0
        assert not readout({"decoder": changed}, batch)[read_number].equal(before[read_number])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_writes_what_its_formula_says(family: str) -> None:
    """The formula is computed for each position, layer read and head, with every position's own key and value."""
    make, encode, _ = FAMILIES[family]
    loaded = make()
    readout, generator = fresh(loaded, noise=0.3), torch.Generator().manual_seed(5)
    of = readout.tensors
    _, batch = next(batches(encode(VERBALIZER + RANKING), size=4, pad=END if family == "gpt2" else 0))
    assert batch.read_row.bincount().max() > 1
    streams = {
        stack: torch.randn(len(layers_read), *batch.texts[stack].ids.shape, 16, generator=generator)
        for stack, layers_read in readout.layers_read.items()
    }
    normed = {stack: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() for stack, x in streams.items()}
    wanted = []
    for row, position in zip(batch.read_row.tolist(), batch.read_position.tolist(), strict=True):
        here = normed["decoder"][:, row, position]
        inner = of["bias"] + sum(x @ read for x, read in zip(here, of["decoder.read"], strict=True))
        for stack, states in normed.items():
            real = batch.texts[stack].is_real[row].clone()
            if stack == "decoder":
                real[position + 1 :] = False
            for tap, text in enumerate(states[:, row, real]):
                heads = []
                for query, key, value in zip(
                    *(of[f"{stack}.{part}"][tap].chunk(2, dim=-1) for part in ("query", "key", "value")), strict=True
                ):
                    weights = (text @ key @ (here[-1] @ query) / key.shape[-1] ** 0.5).softmax(0)
                    heads.append(weights @ (text @ value))
                inner = inner + torch.cat(heads)
        wanted.append(torch.nn.functional.gelu(inner) @ of["up"] + of["up_bias"])
    torch.testing.assert_close(readout(streams, batch), torch.stack(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_lowers_the_loss_and_leaves_the_large_model_alone(family: str, tmp_path: Path) -> None:
    make, _, task = FAMILIES[family]
    loaded = make()
    data: TaskData = task()
    readout = fresh(loaded)
    inputs = {name: read(loaded, getattr(data, name).encoded, readout, tmp_path / name) for name in ("train", "dev")}
    head = head_of(loaded.model)
    losses: list[float] = []

    def fit(epochs: int) -> Readout:
        trained = fresh(loaded)
        settings = Settings(epochs=epochs, batch_size=8)
        fit_readout(trained, head, data, inputs["train"], inputs["dev"], settings, learning_rate=1e-2, seed=0)
        losses.append(predict(data.train.encoded, _cached(trained, inputs["train"]), head, batch_size=8, pad=0).loss)
        return trained

    weights = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    trained, again = fit(20), fit(20)
    untrained = predict(data.train.encoded, _cached(readout, inputs["train"]), head, batch_size=8, pad=0).loss
    assert losses[0] < 0.5 * untrained
    assert all(trained.tensors[name].equal(again.tensors[name]) for name in trained.tensors)
    assert all(value.equal(weights[name]) for name, value in loaded.model.state_dict().items())
    assert all(weight.grad is None and not weight.requires_grad for weight in loaded.model.parameters())


def test_a_file_keeps_everything(tmp_path: Path) -> None:
    readout = fresh(tiny_loaded(16, 4), count=3, noise=0.3)
    readout.save(tmp_path / "a.safetensors")
    readout.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    found = Readout.load(tmp_path / "a.safetensors")
    assert (found.layers_read, found.heads) == (readout.layers_read, readout.heads)
    assert all(found.tensors[name].equal(tensor) for name, tensor in readout.tensors.items())


def test_other_files_are_refused(tmp_path: Path) -> None:
    tiny_module("lora", tiny_loaded().model).save(tmp_path / "module.safetensors")
    with pytest.raises(ModuleError, match="not a readout of gfpet: format 'gfpet-module-2'"):
        Readout.load(tmp_path / "module.safetensors")
    with pytest.raises(ModuleError, match="cannot read the readout"):
        Readout.load(tmp_path / "missing.safetensors")


def test_activations_over_the_budget_are_refused(tmp_path: Path) -> None:
    loaded = tiny_loaded(16, 4)
    with pytest.raises(ConfigError, match=r"readout.budget_gb allows 0.00 GB.*lower readout.layers_read"):
        read(loaded, encoded(RANKING), fresh(loaded), tmp_path, budget=10)


@pytest.mark.parametrize(
    ("count", "layers_read"), [(1, (0,)), (2, (0, 4)), (3, (0, 2, 4)), (5, (0, 1, 2, 3, 4)), (99, (0, 1, 2, 3, 4))]
)
def test_taps_are_spread_over_the_depth(count: int, layers_read: tuple[int, ...]) -> None:
    loaded = tiny_loaded(16, 4)
    assert layers_to_read(loaded.family.dims(loaded.model.config), count) == {"decoder": layers_read}
