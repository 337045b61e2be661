"""Stages `align` and `similarity`, run in order on tiny checkpoints in their own folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gfpet.config import apply_preset
from gfpet.data.examples import write_examples
from gfpet.lm.modules import PetModule
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection
from gfpet.stages.align import align
from gfpet.stages.similarity import similarity
from tests.tiny import learnable, save_checkpoint_folder, shaken, tiny_gpt2, tiny_module

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "tasks=[cb,rte]",
    "seeds=[0,1]",
    "kinds=[lora,adapter,prefix]",
    "models.device=cpu",
    "models.max_length=20",
    "models.gpt2.small.path=checkpoints/small",
    "models.gpt2.large.path=checkpoints/large",
    "modules.lora.target_modules=[attn.q,mlp.down]",
    "align.examples=24",
    "similarity.examples=6",
    "similarity.null_samples=2",
)
MEASURES = ("cosine", "subspace", "cka", "cka_debiased", "rsa")


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    """One MLflow store for all tests of this file."""
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('tracking'))}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracking: str) -> Path:
    """Two tasks, two checkpoints, and modules of two seeds: all kinds for S; for L no prefixes, and one task only."""
    models = {"small": tiny_gpt2(16, 2), "large": tiny_gpt2(24, 4, seed=1)}
    for name, model in models.items():
        save_checkpoint_folder(tmp_path / "checkpoints" / name, model)
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "quick.yaml").write_text("{}\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    apply_preset("quick", SETTINGS, tmp_path / "params.yaml")
    for name in ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    monkeypatch.chdir(tmp_path)
    for number, task in enumerate(("cb", "rte")):
        for split in ("train", "dev", "eval"):
            write_examples(Path("outputs/prepare") / task / f"{split}.jsonl", learnable(20, number))
        for seed in (0, 1):
            for kind in ("lora", "adapter", "prefix"):
                for stage, model in (("tune", models["small"]), ("reference", models["large"])):
                    if stage == "tune" or (task == "cb" and kind != "prefix"):
                        module = _some_targets(shaken(tiny_module(kind, model), 10 * number + seed, size=0.1))
                        module.save(Path("outputs") / stage / "gpt2" / task / f"{kind}-seed{seed}.safetensors")
    return tmp_path


def _some_targets(module: PetModule) -> PetModule:
    """A LoRA at two of the tiny module's five target modules, to save time."""
    left_out = ("attn.v.", "attn.o.", "mlp.up.") if module.kind == "lora" else ()
    return module.with_tensors(
        {name: tensor for name, tensor in module.tensors.items() if not name.startswith(left_out)}
    )


def metrics(stage: str) -> Any:
    return json.loads(Path(f"metrics/{stage}/gpt2.json").read_text())


def test_from_checkpoints_to_similarities(project: Path) -> None:
    align("gpt2")
    assert sorted(path.name for path in (project / "outputs/align/gpt2").iterdir()) == [
        "layers.json",
        "maps.safetensors",
    ]
    assert load_pairs(Path("outputs/align/gpt2/layers.json")) == {"decoder": ((0, 0), (1, 0), (2, 1), (3, 1))}
    maps = Projection.load(Path("outputs/align/gpt2/maps.safetensors"))
    assert maps.reads["attn.q.in"].shape == (4, 16, 24)
    assert maps.reads["mlp.down.in"].shape == (4, 64, 96)
    assert maps.write_offsets["attn.k.out"].shape == (4, 24)
    found = metrics("align")
    spaces = {f"r2/reads/{space}" for space in maps.reads} | {f"r2/writes/{space}" for space in maps.writes}
    assert spaces == {name for name in found["values"] if name.startswith("r2/")}
    assert found["values"]["texts"] == 24
    assert found["memory"]["align"]["cpu_live_peak_bytes"] > 0

    similarity("gpt2")
    rows = json.loads(Path("outputs/similarity/gpt2/similarity.json").read_text())["rows"]
    keys = [(row["task"], row["kind"], row["seed"], row["measure"]) for row in rows]
    assert keys == [
        (task, kind, seed, measure)
        for task in ("cb",)
        for kind in ("lora", "adapter")
        for seed in (0, 1)
        for measure in MEASURES
    ]
    for row in rows:
        assert row["value"] is not None
        assert list(row["controls"]) == ["random_map", "untrained", "other_task", "other_seed"]
        no_map = row["measure"] in ("cka", "cka_debiased", "rsa")
        assert (row["controls"]["random_map"] is None) == no_map
        assert all(row["controls"][name] is not None for name in ("untrained", "other_task", "other_seed"))
        # Here, modules of two seeds are the same module with different noise.
        assert row["controls"]["other_seed"] > 0.4
        known = [[cell is not None for cell in line] for line in row["heatmap"]]
        expected = [[no_map or (large // 2) == small for large in range(4)] for small in range(2)]
        assert known == expected
        cells = [row["heatmap"][small][large] for large, small in ((0, 0), (1, 0), (2, 1), (3, 1))]
        assert row["value"] == pytest.approx(sum(cells) / 4)
    values = metrics("similarity")["values"]
    assert values["comparisons"] == len(rows)
    assert values["cb/lora/cka"] == pytest.approx(
        sum(row["value"] for row in rows if _is(row, "cb", "lora", "cka")) / 2
    )
    assert metrics("similarity")["memory"]["similarity"]["cpu_live_peak_bytes"] > 0


def _is(row: dict[str, Any], *key: str) -> bool:
    return (row["task"], row["kind"], row["measure"]) == key


def test_without_references_there_are_no_rows(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply_preset(
        "quick",
        [*SETTINGS, "kinds=[lora]", "seeds=[0]", "align.layer_assignment=cka", "align.method=procrustes"],
        project / "params.yaml",
    )
    for path in project.glob("outputs/reference/gpt2/*/*"):
        path.unlink()
    align("gpt2")
    assert json.loads(Path("outputs/align/gpt2/layers.json").read_text())["name"] == "cka"
    similarity("gpt2")
    assert json.loads(Path("outputs/similarity/gpt2/similarity.json").read_text()) == {"rows": []}
    assert "nothing to compare" in capsys.readouterr().err


def test_a_module_of_the_same_model_through_its_own_maps_is_itself(project: Path) -> None:
    """S is L, and both have the same module: every value is 1, the ceiling."""
    settings = [each for each in SETTINGS if not each.startswith(("models.gpt2.small", "tasks", "seeds", "kinds"))]
    apply_preset(
        "quick",
        [
            *settings,
            "models.gpt2.small.path=checkpoints/large",
            "tasks=[cb]",
            "seeds=[0]",
            "kinds=[adapter]",
            "align.ridge=1e-9",
            "similarity.null_samples=1",
        ],
        project / "params.yaml",
    )
    module = PetModule.load(Path("outputs/reference/gpt2/cb/adapter-seed0.safetensors"))
    module.save(Path("outputs/tune/gpt2/cb/adapter-seed0.safetensors"))
    align("gpt2")
    similarity("gpt2")
    rows = json.loads(Path("outputs/similarity/gpt2/similarity.json").read_text())["rows"]
    assert {row["measure"]: round(row["value"], 2) for row in rows} == dict.fromkeys(MEASURES, 1.0)
    for row in rows:
        nulls = [row["controls"][name] for name in ("random_map", "untrained") if row["controls"][name] is not None]
        assert max(nulls) < 0.9, row
        assert (row["controls"]["other_task"], row["controls"]["other_seed"]) == (None, None)
    # The same inputs give the same bytes.
    outputs = [Path("outputs/align/gpt2/maps.safetensors"), Path("outputs/similarity/gpt2/similarity.json")]
    before = [path.read_bytes() for path in outputs]
    align("gpt2")
    similarity("gpt2")
    assert [path.read_bytes() for path in outputs] == before
