"""The module as an object: saving, loading, copying, describing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfpet.errors import ModuleError
from gfpet.lm.modules import KINDS, PetModule
from tests.tiny import KIND_NAMES, tiny_gpt2, tiny_module


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_a_saved_module_comes_back_whole(kind: str, tmp_path: Path) -> None:
    module = tiny_module(kind, tiny_gpt2())
    module.save(tmp_path / "a" / "one.safetensors")
    module.save(tmp_path / "two.safetensors")
    back = PetModule.load(tmp_path / "a" / "one.safetensors")
    assert (back.kind, back.family, back.layers, back.scale) == (kind, "gpt2", module.layers, module.scale)
    assert set(back.tensors) == set(module.tensors)
    assert all(torch.equal(back.tensors[name], module.tensors[name]) for name in module.tensors)
    assert (tmp_path / "a" / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_files_that_are_no_module_are_said(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ModuleError, match=r"cannot read the module .*missing\.safetensors"):
        PetModule.load(tmp_path / "missing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(ModuleError, match=r"cannot read the module .*broken\.safetensors"):
        PetModule.load(tmp_path / "broken.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModuleError, match="is not a module of gfpet: format 'none', expected 'gfpet-module-2'"):
        PetModule.load(tmp_path / "other.safetensors")


def test_a_detached_module_shares_nothing() -> None:
    module = tiny_module("lora", tiny_gpt2())
    copy = module.detached()
    copy.tensors["attn.q.A"].zero_()
    assert float(module.tensors["attn.q.A"].abs().max()) > 0


def test_every_kind_says_of_every_tensor_what_it_meets() -> None:
    model = tiny_gpt2()
    for kind in KIND_NAMES:
        parts = {name.rsplit(".", 1)[1] for name in tiny_module(kind, model).tensors}
        assert parts == set(KINDS[kind].parts)
