"""The registry against the code that it names and the configuration derived from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gfpet.config import Params, load_params
from gfpet.errors import ModuleError
from gfpet.lm import registry
from gfpet.lm.families import FAMILIES
from gfpet.lm.modules import KINDS, PetModule
from tests.tiny import KIND_NAMES, tiny_gpt2, tiny_module, tiny_options


def test_the_registry_and_the_configuration_import_no_torch() -> None:
    code = "import sys, gfpet.config; sys.exit(len({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_kind_has_what_its_entry_says(name: str) -> None:
    entry, kind = registry.KINDS[name], KINDS[name]
    assert kind.name == name
    assert entry.scalable == any(part.is_update for part in kind.parts.values())
    assert entry.positions is None or entry.positions in entry.options
    params = Params()
    assert getattr(params.modules, name).model_dump() == dict(entry.options)
    assert params.tune.learning_rate[name] == params.reference.learning_rate[name] == entry.learning_rate


@pytest.mark.parametrize("name", KIND_NAMES)
def test_a_module_tells_the_options_that_it_was_started_with(name: str) -> None:
    module = tiny_module(name, tiny_gpt2())
    found = dict(KINDS[name].options_of(module))
    expected = tiny_options(name)
    assert {key: set(value) if isinstance(value, tuple) else value for key, value in found.items()} == {
        key: set(value) if isinstance(value, tuple) else value for key, value in expected.items()
    }


def test_families_have_their_names_and_their_default_checkpoints() -> None:
    assert {name: family.name for name, family in FAMILIES.items()} == {name: name for name in registry.FAMILY_NAMES}
    models = load_params("params.yaml").models
    for name in registry.FAMILY_NAMES:
        assert getattr(models, name).small.path == f"checkpoints/{name}/small"


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    module = tiny_module("lora", tiny_gpt2())
    PetModule("lorra", module.family, module.layers, module.tensors).save(tmp_path / "module.safetensors")
    with pytest.raises(ModuleError, match="unknown kind of module 'lorra'; did you mean 'lora'"):
        PetModule.load(tmp_path / "module.safetensors")
