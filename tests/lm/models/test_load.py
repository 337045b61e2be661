"""Loading checkpoints, and errors for broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertConfig, GPT2TokenizerFast

from gfpet.errors import ModelError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.models import LoadedModel, find_device, load_pretrained, require_same_tokenizer
from tests.tiny import logits_of, save_checkpoint_folder, some_ids, tiny_gpt2, tiny_llama

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tiny_gpt2()
    model.config.attn_pdrop = 0.1
    return save_checkpoint_folder(tmp_path / "checkpoint", model)


def load(folder: Path, *, dtype: str = "float32") -> LoadedModel:
    return load_pretrained("gpt2", str(folder), revision=None, dtype=dtype, device=CPU)


def test_a_saved_checkpoint_comes_back_frozen_and_without_dropout(folder: Path) -> None:
    loaded, ids = load(folder), some_ids()
    assert torch.equal(logits_of(loaded.model, ids), logits_of(tiny_gpt2(), ids))
    assert loaded.family is GPT2
    assert loaded.name == str(folder)
    assert loaded.device == CPU
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert [loaded.model.config.attn_pdrop, loaded.model.transformer.h[0].attn.attn_dropout.p] == [0.0, 0.0]
    assert loaded.model.config._attn_implementation == "sdpa"
    assert len(loaded.tokenizer(["ab c"], add_special_tokens=False)["input_ids"][0]) == 4


def test_the_asked_data_type_is_loaded(folder: Path) -> None:
    assert {parameter.dtype for parameter in load(folder, dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no checkpoint at .*nothing: a folder with config\.json"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="no checkpoint at checkpoints/gpt2/tiny"):
        load(Path("checkpoints/gpt2/tiny"))


def test_a_hub_id_needs_a_revision() -> None:
    with pytest.raises(ModelError, match=r"no folder openai/gpt2, so it is a hub id, and needs a revision"):
        load(Path("openai/gpt2"))


def test_a_hub_that_cannot_be_reached_is_said() -> None:
    """Tests run offline."""
    with pytest.raises(ModelError, match=r"cannot load openai-community/gpt2@607a30d: "):
        load_pretrained("gpt2", "openai-community/gpt2", revision="607a30d", dtype="float32", device=CPU)


def test_another_family_is_said(folder: Path) -> None:
    BertConfig(hidden_size=8).save_pretrained(folder)
    with pytest.raises(
        ModelError, match=r"is a 'bert' model, but family 'gpt2' was asked for\. Families: .*gpt2 \(gpt2"
    ):
        load(folder)


def test_an_unknown_family_is_said(folder: Path) -> None:
    with pytest.raises(ModelError, match="unknown model family 'gpt'; did you mean 'gpt2'"):
        load_pretrained("gpt", str(folder), revision=None, dtype="float32", device=CPU)


def test_missing_weights_are_said(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, among them transformer\.h\.1\.mlp\.c_fc\.weight"):
        load(folder)


def test_weights_of_another_size_are_said(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_inner": 48}))
    with pytest.raises(ModelError, match="cannot load"):
        load(folder)


@pytest.mark.parametrize("size", [0, 5, 1000])
def test_a_file_that_was_cut_off_is_said(folder: Path, size: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match="cannot load"):
        load(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot load .*safetensors"):
        load(folder)


def test_a_checkpoint_without_a_tokenizer_is_said(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name.startswith(("tokenizer", "vocab", "merges", "special")):
            file.unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer that can read text: tokenizer\.json is expected"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_said(tmp_path: Path) -> None:
    folder = save_checkpoint_folder(tmp_path / "checkpoint", tiny_gpt2(), extra_tokens=["<x>"])
    with pytest.raises(ModelError, match="has 257 token embeddings, but its tokenizer 258 tokens"):
        load(folder)


def test_a_pair_needs_one_tokenizer(tmp_path: Path) -> None:
    one = load(save_checkpoint_folder(tmp_path / "small", tiny_gpt2()))
    two = load(save_checkpoint_folder(tmp_path / "large", tiny_gpt2(24)))
    require_same_tokenizer(one, two)
    other = load(save_checkpoint_folder(tmp_path / "other", tiny_gpt2(24), alphabet=slice(None, None, -1)))
    with pytest.raises(ModelError, match=r"different tokenizers: of 'Question: .* the first reads \['Q', 'u'"):
        require_same_tokenizer(one, other)


def retokenised(folder: Path, tokens: list[str], merges: list[tuple[str, str]]) -> Path:
    GPT2TokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, merges=merges).save_pretrained(folder)
    return folder


def test_tokenizers_are_compared_by_how_they_cut_text(tmp_path: Path) -> None:
    letters = [*sorted(ByteLevel.alphabet())[:254], "ab", "bc", "<|endoftext|>"]
    plain = tiny_gpt2()
    folders = {name: save_checkpoint_folder(tmp_path / name, plain) for name in ("small", "padded", "merged")}
    small = load(retokenised(folders["small"], letters, [("a", "b"), ("b", "c")]))
    wide = tiny_gpt2()
    wide.resize_token_embeddings(260)
    wide.save_pretrained(folders["padded"])
    padded = [*letters, "[PAD257]", "[PAD258]", "[PAD259]"]
    require_same_tokenizer(small, load(retokenised(folders["padded"], padded, [("a", "b"), ("b", "c")])))
    merged = load(retokenised(folders["merged"], letters, [("b", "c"), ("a", "b")]))
    with pytest.raises(ModelError, match=r"have different tokenizers: of .* the first reads"):
        require_same_tokenizer(small, merged)


def edited(folder: Path, **values: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return folder


def load_llama(folder: Path) -> LoadedModel:
    return load_pretrained("llama", str(folder), revision=None, dtype="float32", device=CPU)


def test_weights_that_the_configuration_has_no_place_for_are_said(tmp_path: Path) -> None:
    biased = save_checkpoint_folder(tmp_path / "biased", tiny_llama(kind="qwen2"))
    edited(biased, model_type="llama", architectures=["LlamaForCausalLM"])
    with pytest.raises(ModelError, match=r"holds 6 weights that its config\.json has no place for, among them .*bias"):
        load_llama(biased)
    deep = save_checkpoint_folder(tmp_path / "deep", tiny_llama(layers=3))
    with pytest.raises(ModelError, match=r"has no place for, among them model\.layers\.1"):
        load_llama(edited(deep, num_hidden_layers=1))


def test_a_folder_with_a_model_and_an_adapter_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds a model and a peft adapter .*move the adapter's files away"):
        load(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = 7e4
    folder = save_checkpoint_folder(tmp_path / "checkpoint", model)
    assert load(folder).name == str(folder)
    with pytest.raises(ModelError, match=r"weight 'transformer\.h\.1\.mlp\.c_fc\.weight' holds NaN .* in float16"):
        load(folder, dtype="float16")


def test_a_tilde_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(Path("~") / folder.name).name == str(folder)


def test_devices() -> None:
    assert find_device("cpu") == CPU
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ModelError, match=r"models\.device is 'gpu'.*Allowed: auto, cpu, cuda, cuda:N"):
        find_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"models\.device is 'cuda'"):
            find_device("cuda")
