"""Offloaded and quantised weights: the model runs forward with hooks and gradient guard, and can be pruned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfpet.errors import FrozenModelError, ModelError
from gfpet.estimate import quantise_fake
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.families.llama import LLAMA
from gfpet.lm.models import FrozenModel, LoadedModel, load_pretrained, offloaded, place, plain_weight
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import backbone_of, collate, head_of, predict
from gfpet.method.prune import activation_importance, choose, cut, magnitude_importance, reduced_dims
from tests.tiny import (
    END,
    KIND_NAMES,
    RANKING,
    VERBALIZER,
    encoded,
    logits_of,
    save_checkpoint_folder,
    some_ids,
    tiny_gpt2,
    tiny_llama,
    tiny_module,
)
from tests.tiny_t5 import tiny_t5

CPU = torch.device("cpu")
ROOM = 65_000
"""Bytes for the embeddings and some blocks of the tiny model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_checkpoint_folder(tmp_path / "checkpoint", tiny_llama(layers=4))


def load(folder: Path, **placement: object) -> LoadedModel:
    return load_pretrained("llama", str(folder), revision=None, dtype="float32", device=CPU, **placement)  # type: ignore[arg-type]


@pytest.fixture
def on_disk(folder: Path, tmp_path: Path) -> LoadedModel:
    return load(folder, device_map="auto", memory=ROOM, offload_folder=tmp_path / "offload")


def test_embeddings_and_first_blocks_stay_and_the_rest_is_on_disk(on_disk: LoadedModel) -> None:
    places = on_disk.model.hf_device_map
    assert {places[part] for part in ("model.embed_tokens", "model.norm", "lm_head")} == {"cpu"}
    of_blocks = [places[f"model.layers.{layer}"] for layer in range(4)]
    assert of_blocks == sorted(of_blocks)
    assert {"cpu", "disk"} == set(of_blocks)
    assert offloaded(on_disk.model)["disk"] == of_blocks.count("disk")
    assert on_disk.device == CPU
    devices = {weight.device.type for weight in on_disk.model.parameters()}
    assert devices == {"cpu", "meta"}


def test_it_computes_what_the_whole_model_does(on_disk: LoadedModel, folder: Path) -> None:
    whole, ids = load(folder), some_ids()
    frozen = FrozenModel(on_disk.model)
    with frozen.forward_only() as model:
        assert torch.equal(logits_of(model, ids), logits_of(whole.model, ids))
        for rows in (encoded(VERBALIZER), encoded(RANKING)):
            predictions = predict(rows, backbone_of(model, LLAMA), head_of(model), batch_size=2, pad=END)
            usual = predict(rows, backbone_of(whole.model, LLAMA), head_of(whole.model), batch_size=2, pad=END)
            assert predictions == usual
    assert frozen.forward_passes == 1 + 3 + 2


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_modules_sit_in_it(on_disk: LoadedModel, folder: Path, kind: str) -> None:
    whole, ids = load(folder), some_ids()
    module = tiny_module(kind, whole.model, family=LLAMA)
    with torch.no_grad(), inserted(whole.model, LLAMA, module):
        usual = logits_of(whole.model, ids)
    with FrozenModel(on_disk.model).forward_only() as model, inserted(model, LLAMA, module):
        assert torch.equal(logits_of(model, ids), usual)


def test_the_guard_holds(on_disk: LoadedModel) -> None:
    FrozenModel(on_disk.model)
    with torch.no_grad(), pytest.raises(FrozenModelError, match="outside of inference mode"):
        logits_of(on_disk.model, some_ids())
    last = on_disk.model.model.layers[3].mlp.up_proj.weight
    assert last.device.type == "meta"
    last.requires_grad_(True)
    with torch.inference_mode(), pytest.raises(FrozenModelError, match=r"layers\.3.* is trainable"):
        logits_of(on_disk.model, some_ids())


def test_a_bridge_is_cut_out_of_it_as_out_of_the_whole(on_disk: LoadedModel, folder: Path) -> None:
    whole = load(folder)
    dims = reduced_dims(LLAMA.dims(whole.model.config), 2.0, "parameters")
    batch = [collate(encoded(VERBALIZER), pad=END)]
    bridges = []
    for each in (on_disk, whole):
        assert torch.equal(
            magnitude_importance(each.model, LLAMA).residual, magnitude_importance(whole.model, LLAMA).residual
        )
        importance = activation_importance(FrozenModel(each.model), LLAMA, batch)
        bridges.append(cut(each.model, LLAMA, dims, choose(importance, dims, LLAMA)))
    ours, theirs = (dict(bridge.named_parameters()) for bridge in bridges)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(weight.device == CPU for weight in on_disk.model.model.layers[0].parameters())


def test_what_must_stay_and_does_not_fit_is_said(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"embeddings and head alone need 0\.00 GB on cpu, .* raise models"):
        load(folder, device_map="auto", memory=1000)


def test_room_for_all_keeps_all_in_place(folder: Path) -> None:
    loaded = load(folder, device_map="auto")
    assert offloaded(loaded.model) == {}
    assert {weight.device for weight in loaded.model.parameters()} == {CPU}


def test_a_map_names_every_weight_once() -> None:
    with torch.device("meta"):
        model = tiny_llama(layers=4)
    placed = place(model, LLAMA, torch.float32, CPU, memory=ROOM)
    for name, _ in model.named_parameters():
        assert sum(name.startswith(f"{part}.") for part in placed) == 1, name


QUANTISED = {
    "llama": lambda: tiny_llama(layers=4),
    # bitsandbytes uses another implementation if widths are multiples of 64.
    "llama/64": lambda: tiny_llama(64, layers=4, head_width=32),
    "gpt2": lambda: tiny_gpt2(64, layers=2),
    "t5": lambda: tiny_t5(64),
}


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize(("bits", "error"), [("int8", 0.1), ("int4", 0.3)])
def test_the_weights_of_few_bits_can_be_read_and_are_what_computes(
    tmp_path: Path, bits: str, error: float, name: str
) -> None:
    """bitsandbytes also supports the CPU."""
    pytest.importorskip("bitsandbytes")
    family, folder = name.partition("/")[0], save_checkpoint_folder(tmp_path, QUANTISED[name]())
    whole, packed = (
        load_pretrained(family, str(folder), revision=None, dtype="float32", device=CPU, quantisation=each)
        for each in ("none", bits)
    )
    said = _logits(packed)
    # `quantise_fake`, which estimates use, gives the same weights as the loader.
    same = load_pretrained(family, str(folder), revision=None, dtype="float32", device=CPU)
    quantise_fake(same, bits, torch.float32, CPU)
    assert torch.equal(_logits(same), said)
    errors = []
    for path, part in whole.model.named_modules():
        other = packed.model.get_submodule(path)
        if type(other) is type(part):
            continue
        assert other.weight.dtype in (torch.int8, torch.uint8)
        read = plain_weight(other)
        assert read.shape == part.weight.shape
        errors.append(float((read - part.weight).abs().mean() / part.weight.abs().mean()))
        part.weight.data = read
    assert 0 < sum(errors) / len(errors) < error
    usual = _logits(whole)
    # int8 also quantises the activations.
    assert (said - usual).abs().mean() / usual.abs().mean() < (0.1 if bits == "int8" else 1e-5)
    for target in whole.family.target_modules:
        assert whole.family.target_widths(packed.model, target) == whole.family.target_widths(whole.model, target)
    dims = reduced_dims(whole.family.dims(whole.model.config), 2.0, "parameters")
    importance = magnitude_importance(whole.model, whole.family)
    ours, theirs = (
        cut(each.model, each.family, dims, choose(importance, dims, each.family)).state_dict()
        for each in (packed, whole)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key], theirs[key]) for key in ours)


def _logits(loaded: LoadedModel) -> torch.Tensor:
    ids = some_ids()
    texts = {"decoder_input_ids": ids[:, :3]} if len(loaded.family.stacks) > 1 else {}
    with FrozenModel(loaded.model).forward_only() as model:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, **texts).logits
    return logits


@pytest.mark.parametrize(
    ("name", "placement", "extra"),
    [
        ("accelerate", {"device_map": "auto"}, "offload"),
        ("bitsandbytes", {"quantisation": "int8"}, "quantised"),
        ("bitsandbytes", {"quantisation": "int4"}, "quantised"),
    ],
)
def test_a_library_that_is_missing_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, placement: dict[str, str], extra: str
) -> None:
    from gfpet.lm.models import _placement

    monkeypatch.setattr(_placement, "find_spec", lambda wanted: None if wanted == name else object())
    with pytest.raises(ModelError, match=rf"needs the package {name}, which is not installed: pip .*\[{extra}\]"):
        load(folder, **placement)


def test_hardware_that_bitsandbytes_does_not_know_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    import transformers.integrations

    def refuse(**_: object) -> None:
        raise RuntimeError("no backend for this device")

    monkeypatch.setattr(transformers.integrations, "validate_bnb_backend_availability", refuse)
    with pytest.raises(ModelError, match=r"quantisation is int8, .* cannot compute on this hardware \(no backend"):
        load(folder, quantisation="int8")


def test_tied_weights_count_once() -> None:
    with torch.device("meta"):
        model = tiny_gpt2(layers=4)
    assert model.lm_head.weight is model.transformer.wte.weight
    outside = [model.transformer.wte, model.transformer.wpe, model.transformer.ln_f]
    room = sum(weight.numel() for part in outside for weight in part.parameters()) * 4
    placed = place(model, GPT2, torch.float32, CPU, memory=room)
    assert {where for part, where in placed.items() if ".h." not in part} == {"cpu"}
    assert {where for part, where in placed.items() if ".h." in part} == {"disk"}
