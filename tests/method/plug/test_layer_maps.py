"""Layer assignment: every layer of the large model gets the right layer of the small model, in order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfpet.errors import ConfigError
from gfpet.method.plug import layer_pairs

DEPTHS = st.tuples(st.integers(1, 12), st.integers(0, 40)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(DEPTHS)
def test_stack_and_interpolate_cover_both_models(depths: tuple[int, int]) -> None:
    small, large = depths
    for name in ("stack", "interpolate"):
        pairs = layer_pairs(name, small, large)
        assert [target for target, _ in pairs] == list(range(large))
        assert {s for _, s in pairs} == set(range(small))
        copies = [sum(s == layer for _, s in pairs) for layer in range(small)]
        assert max(copies) - min(copies) <= 1


@given(DEPTHS)
def test_interpolate_never_goes_back(depths: tuple[int, int]) -> None:
    sources = [s for _, s in layer_pairs("interpolate", *depths)]
    assert sources == sorted(sources)


@given(DEPTHS)
def test_depth_takes_each_small_layer_once_at_its_relative_depth(depths: tuple[int, int]) -> None:
    small, large = depths
    pairs = layer_pairs("depth", small, large)
    assert [s for _, s in pairs] == list(range(small))
    targets = [target for target, _ in pairs]
    assert sorted(set(targets)) == targets
    assert all(0 <= target < large for target in targets)
    # The relative depths of the two layers' middles differ by at most half a layer of L.
    assert all(abs((target + 0.5) / large - (source + 0.5) / small) <= 0.5 / large + 1e-9 for target, source in pairs)


@given(DEPTHS.filter(lambda depths: depths[0] == depths[1]))
def test_equal_depths_are_mapped_one_to_one(depths: tuple[int, int]) -> None:
    one_to_one = tuple((layer, layer) for layer in range(depths[0]))
    assert layer_pairs("stack", *depths) == one_to_one
    assert layer_pairs("interpolate", *depths) == one_to_one
    assert layer_pairs("depth", *depths) == one_to_one


def test_the_values_of_an_example() -> None:
    assert layer_pairs("stack", 2, 5) == ((0, 0), (1, 1), (2, 0), (3, 1), (4, 0))
    assert layer_pairs("interpolate", 2, 5) == ((0, 0), (1, 0), (2, 0), (3, 1), (4, 1))
    assert layer_pairs("depth", 2, 6) == ((1, 0), (4, 1))


def test_cka_takes_the_most_similar_layer() -> None:
    likeness = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3]])
    assert layer_pairs("cka", 2, 3, likeness) == ((0, 0), (1, 1), (2, 0))


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"small model has 4 blocks and the large one 2.*Swap models"):
        layer_pairs("stack", 4, 2)
    with pytest.raises(ConfigError, match="'cka' needs the similarity"):
        layer_pairs("cka", 2, 4)
