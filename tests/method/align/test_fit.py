"""Fitted maps between the activations of two models that read the same text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gfpet.errors import DataError
from gfpet.lm.activations import captured
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import inserted
from gfpet.lm.scoring import Batch, EncodedExample, backbone_of, collate
from gfpet.method.align import (
    Method,
    explained,
    fit_maps,
    layer_groups,
    load_pairs,
    read_through,
    save_pairs,
    spaces_for,
)
from gfpet.method.plug import layer_assignment, plugged, spaces_of, with_embeddings
from tests.tiny import END, KIND_NAMES, RANKING, VERBALIZER, ByteTokenizer, learnable, tiny_loaded, tiny_module

TARGETS = {"lora": ("attn.q", "attn.v"), "adapter": ("attn.o", "mlp.down"), "prefix": ("attn.k", "attn.v")}
READS, WRITES = spaces_for(TARGETS)
PAIRS = layer_assignment("interpolate", {"decoder": 2}, {"decoder": 4})
SMALL, LARGE = tiny_loaded(16, 2, seed=0), tiny_loaded(24, 4, seed=1)
FROZEN = FrozenModel(LARGE.model)


def text(count: int = 15) -> list[EncodedExample]:
    return read_through([*VERBALIZER, *RANKING, *learnable(count)], ByteTokenizer(), max_length=20)


def batched(rows: Sequence[EncodedExample], size: int) -> list[Batch]:
    return [collate(rows[start : start + size], pad=END) for start in range(0, len(rows), size)]


def tokens_at(loaded: LoadedModel, space: str, rows: Sequence[EncodedExample]) -> list[Tensor]:
    """Activations of each layer, `[tokens, d]`, computed row by row, without padding."""
    found: list[list[Tensor]] = []
    for row in rows:
        with torch.inference_mode(), captured(loaded.model, GPT2, [space]) as states:
            backbone_of(loaded.model, GPT2)(collate([row], pad=END))
        found.append([layer[0] for layer in states[space]])
    return [torch.cat(parts).double() for parts in zip(*found, strict=True)]


def test_spaces_are_those_of_the_modules() -> None:
    for kind in KIND_NAMES:
        module = tiny_module(kind, SMALL.model)
        target_modules = {name.rsplit(".", 1)[0] for name in module.tensors}
        assert spaces_for({kind: sorted(target_modules)}) == spaces_of(module)


@pytest.mark.parametrize("centre", [False, True])
def test_the_stream_equals_one_dense_regression_without_padding(centre: bool) -> None:
    maps = fit_maps(
        SMALL,
        FROZEN,
        batched(text(), 7),
        PAIRS,
        reads=READS,
        writes=WRITES,
        ridge=1e-3,
        centre=centre,
    )
    for space, direction in (("attn.q.in", "read"), ("attn.k.out", "write"), ("mlp.down.out", "read")):
        small, large = tokens_at(SMALL, space, text()), tokens_at(LARGE, space, text())
        for index, (l, m) in enumerate(PAIRS["decoder"]):  # noqa: E741
            x, y = (large[l], small[m]) if direction == "read" else (small[m], large[l])
            mean_x, mean_y = (side.mean(0) if centre else torch.zeros(side.shape[1]).double() for side in (x, y))
            x, y = x - mean_x, y - mean_y
            penalty = 1e-3 * float(x.square().mean()) * len(x)
            expected = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).double(), x.T @ y).T
            found = getattr(maps, f"{direction}s")[space][index].double()
            assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4), (space, index)
            offsets = getattr(maps, f"{direction}_offsets")
            assert (space in offsets) == centre
            if centre:
                assert torch.allclose(offsets[space][index].double(), mean_y - expected @ mean_x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_the_cut_into_batches_does_not_matter(method: Method) -> None:
    # After a layer norm one direction is constant, and its image under the rotation depends on rounding only.
    spaces = ["attn.o.out", "mlp.down.out"]
    one, many = (
        fit_maps(SMALL, FROZEN, batched(text(), size), PAIRS, reads=spaces, writes=spaces, method=method).named()
        for size in (39, 4)
    )
    assert one.keys() == many.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, many[name], rtol=1e-2, atol=1e-3), name


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_maps_have_the_shapes_that_a_module_goes_through(kind: str) -> None:
    reads, writes = spaces_of(tiny_module(kind, SMALL.model))
    pairs = with_embeddings(PAIRS, reads | writes)
    maps = fit_maps(SMALL, FROZEN, batched(text(8), 8), pairs, reads=reads, writes=writes, method="procrustes")
    moved = plugged(tiny_module(kind, SMALL.model), maps, PAIRS, divide_by_copies=True)
    with torch.inference_mode(), inserted(LARGE.model, GPT2, moved):
        assert torch.isfinite(backbone_of(LARGE.model, GPT2)(batched(text(8), 8)[0])).all()
    for name, tensor in maps.named().items():
        assert tensor.dtype == torch.float32, name
        assert not tensor.requires_grad, name
        assert not tensor.is_inference(), name


def test_a_model_is_mapped_to_itself_by_the_identity() -> None:
    pairs = layer_assignment("stack", {"decoder": 4}, {"decoder": 4})
    other = tiny_loaded(24, 4, seed=1)
    maps = fit_maps(other, FROZEN, batched(text(60), 8), pairs, reads=READS, writes=WRITES, ridge=1e-9)
    # Activations after a layer norm lie in a hyperplane, so the map is defined only there: it is the identity.
    assert torch.allclose(maps.writes["attn.o.out"], torch.eye(24).expand(4, -1, -1), atol=1e-3)
    quality = explained(maps, other, FROZEN, batched(text(10), 4), pairs)
    assert set(quality) == {f"reads/{space}" for space in READS} | {f"writes/{space}" for space in WRITES}
    assert min(quality.values()) > 0.9999


def test_explained_is_r2() -> None:
    from sklearn.metrics import r2_score

    maps = fit_maps(SMALL, FROZEN, batched(text(), 7), PAIRS, reads=["attn.q.in"], writes=["attn.k.out"])
    held_out = text(50)[-18:]
    found = explained(maps, SMALL, FROZEN, batched(held_out, 4), PAIRS)
    for direction, space in (("read", "attn.q.in"), ("write", "attn.k.out")):
        small, large = tokens_at(SMALL, space, held_out), tokens_at(LARGE, space, held_out)
        scores = []
        for index, (l, m) in enumerate(PAIRS["decoder"]):  # noqa: E741
            x, y = (large[l], small[m]) if direction == "read" else (small[m], large[l])
            matrix, offset = (getattr(maps, f"{direction}{end}")[space][index].double() for end in ("s", "_offsets"))
            weights = y.var(0, correction=0).numpy()
            each = r2_score(y.numpy(), (x @ matrix.T + offset).numpy(), multioutput="raw_values")
            scores.append(float((each * weights).sum() / weights.sum()))
        assert found[f"{direction}s/{space}"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_inputs_of_one_fused_map_are_summed_once_and_stored_apart(tmp_path: Path) -> None:
    maps = fit_maps(SMALL, FROZEN, batched(text(8), 8), PAIRS, reads=["attn.q.in", "attn.v.in"], writes=[])
    assert torch.equal(maps.reads["attn.q.in"], maps.reads["attn.v.in"])
    maps.save(tmp_path / "maps.safetensors")
    assert (tmp_path / "maps.safetensors").stat().st_size > 2 * maps.reads["attn.q.in"].numel() * 4


def test_text_is_the_context_with_its_right_answer() -> None:
    row = read_through(RANKING[:1], ByteTokenizer(), max_length=40)[0].rows[0]
    assert bytes(row.tokens).decode() == "the cat ran off"
    short = read_through(RANKING[:1], ByteTokenizer(), max_length=9)[0].rows[0]
    assert bytes(short.tokens).decode() == "t ran off"


def test_a_layer_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "align" / "layers.json"
    save_pairs(path, PAIRS, name="interpolate", small={"decoder": 2}, large={"decoder": 4})
    assert load_pairs(path) == PAIRS
    assert path.read_text() == (
        '{"name": "interpolate", "stacks": {"decoder": {"pairs": [[0, 0], [1, 0], [2, 1], [3, 1]], '
        '"small_layers": 2, "large_layers": 4}}}\n'
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "run the stage 'align' first"),
        ("{}", "no layer assignment"),
        ('{"stacks": {}}', "has no stack of blocks"),
        ('{"stacks": {"decoder": {"pairs": [], "small_layers": 2, "large_layers": 4}}}', "has no pair for the decoder"),
        (
            '{"stacks": {"decoder": {"pairs": [[1, 2]], "small_layers": 2, "large_layers": 4}}}',
            r"the pair \[1, 2\] for the decoder",
        ),
    ],
)
def test_a_broken_layer_map_is_told(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "layers.json").write_text(content)
    with pytest.raises(DataError, match=said):
        load_pairs(tmp_path / "layers.json")


@pytest.mark.parametrize("method", ["ridge", "procrustes"])
def test_maps_in_groups_of_layers_are_the_maps_of_all_layers(method: str) -> None:
    whole = fit_maps(SMALL, FROZEN, batched(text(), 7), PAIRS, reads=READS, writes=WRITES, method=method).named()
    groups = list(layer_groups(PAIRS, SMALL.family, SMALL.model, FROZEN._model, reads=READS, writes=WRITES, budget=1))
    assert len(groups) == len(PAIRS["decoder"])
    for group, start in groups:
        part = fit_maps(SMALL, FROZEN, batched(text(), 7), group, reads=READS, writes=WRITES, method=method)
        for name, tensor in part.named().items():
            torch.testing.assert_close(tensor, whole[name][start["decoder"] : start["decoder"] + 1])
