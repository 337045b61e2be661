"""Scores are mean log-likelihoods, independent of batch, padding and code path."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfpet.data.examples import Example
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.scoring import (
    EncodedExample,
    Predictions,
    backbone_of,
    candidate_scores,
    collate,
    head_of,
    predict,
    ranking_loss,
)
from gfpet.lm.scoring import _score as score_module
from tests.lm.scoring.make_golden import PATH, naive_scores
from tests.tiny import END, RANKING, VERBALIZER, encoded, tiny_gpt2

MODEL = tiny_gpt2(24, 3, heads=4)
ALL = [*VERBALIZER, *RANKING]


def said_of(rows: list[EncodedExample], batch_size: int, pad: int = END) -> Predictions:
    return predict(rows, backbone_of(MODEL, GPT2), head_of(MODEL), batch_size=batch_size, pad=pad)


def normalised(scores: list[float]) -> torch.Tensor:
    """Scores up to a constant: if all candidates are one token, a score is the logit, and only differences count."""
    return torch.tensor(scores).log_softmax(-1)


def test_multi_token_scores_are_the_naive_mean_log_likelihoods() -> None:
    predictions = said_of(encoded(RANKING), batch_size=2)
    for scores, example in zip(predictions.scores, RANKING, strict=True):
        assert scores == pytest.approx(naive_scores(MODEL, example), abs=1e-5)


def test_one_position_scores_rank_as_the_whole_log_softmax() -> None:
    rows = encoded(VERBALIZER)
    assert collate(rows, pad=END).one_position
    predictions = said_of(rows, batch_size=4)
    for scores, choice, example in zip(predictions.scores, predictions.choices, VERBALIZER, strict=True):
        naive = naive_scores(MODEL, example)
        assert torch.allclose(normalised(scores), normalised(naive), atol=1e-5)
        assert choice == naive.index(max(naive))


def test_golden_scores() -> None:
    """`python -m tests.lm.scoring.make_golden` writes the golden scores."""
    golden = json.loads(PATH.read_text(encoding="utf-8"))
    predictions = said_of(encoded(ALL), batch_size=3)
    assert set(golden) == {example.id for example in ALL}
    for example, scores in zip(ALL, predictions.scores, strict=True):
        assert torch.allclose(normalised(scores), normalised(golden[example.id]), atol=1e-4), example.id


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9])
@pytest.mark.parametrize("pad", [END, 7])
def test_padding_and_batching_change_no_score(batch_size: int, pad: int) -> None:
    rows = encoded(ALL)
    alone, together = said_of(rows, 1), said_of(rows, batch_size, pad)
    assert together.choices == alone.choices
    assert together.loss == pytest.approx(alone.loss, abs=1e-5)
    for one, other in zip(alone.scores, together.scores, strict=True):
        assert torch.allclose(normalised(one), normalised(other), atol=1e-5)


def test_predictions_come_in_the_order_of_the_examples() -> None:
    rows = encoded(ALL)
    forward = said_of(rows, 2)
    backward = said_of(rows[::-1], 2)
    assert [len(scores) for scores in forward.scores] == [len(example.candidates) for example in ALL]
    assert backward.choices[::-1] == forward.choices
    best = [max(range(len(scores)), key=scores.__getitem__) for scores in forward.scores]
    assert forward.choices == best


def test_the_first_of_equals_is_chosen() -> None:
    rows = encoded([Example("e", text, ("z", "z", "z"), ("0", "1", "2"), (2,)) for text in ("abc", "d")])
    assert said_of(rows, 2).choices == [0, 0]


def test_loss_is_the_mean_of_minus_log_of_the_right_candidates_probability() -> None:
    rows = encoded(RANKING)
    batch = collate(rows, pad=END)
    scores = candidate_scores(backbone_of(MODEL, GPT2)(batch), head_of(MODEL), batch)
    assert scores.shape == (3, 5)
    assert torch.equal(scores.isinf(), ~batch.exists)
    by_hand = 0.0
    for index, example in enumerate(RANKING):
        weights = [math.exp(value) for value in scores[index, : len(example.candidates)].tolist()]
        by_hand -= math.log(sum(weights[right] for right in example.gold) / sum(weights)) / len(RANKING)
    assert float(ranking_loss(scores, batch)) == pytest.approx(by_hand, abs=1e-5)
    assert said_of(rows, 2).loss == pytest.approx(by_hand, abs=1e-5)


def test_loss_where_every_candidate_is_right_is_zero_and_has_a_gradient() -> None:
    batch = collate(encoded([RANKING[1], RANKING[0]]), pad=END)
    hidden = backbone_of(MODEL, GPT2)(batch).requires_grad_(True)
    loss = ranking_loss(candidate_scores(hidden, head_of(MODEL), batch), batch)
    loss.backward()
    assert hidden.grad is not None
    assert bool(hidden.grad.isfinite().all())
    assert float(ranking_loss(torch.zeros(2, 3).masked_fill(~batch.exists, -torch.inf), batch)) == pytest.approx(
        math.log(3) / 2
    )


def test_normalisers_in_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = encoded(RANKING)
    whole = said_of(rows, 3)
    monkeypatch.setattr(score_module, "_CHUNK", 2)
    assert torch.tensor(said_of(rows, 3).scores[2]).allclose(torch.tensor(whole.scores[2]), atol=1e-6)


def test_half_precision_hidden_states_give_float32_scores_that_do_not_tie() -> None:
    """Near -100, bfloat16 has a resolution of 0.5: two logits 0.1 apart would be equal."""
    batch = collate(encoded(VERBALIZER[:1]), pad=END)
    head = torch.zeros(257, 24)
    head[ord("y")], head[ord("n")] = -100.0, -100.0
    head[ord("n"), 0] = -98.0
    hidden = torch.full((1, batch.texts["decoder"].ids.shape[1], 24), 1 / 24)
    scores = candidate_scores(hidden.bfloat16(), head.bfloat16(), batch)
    assert scores.dtype == torch.float32
    assert float(scores[0, 1] - scores[0, 0]) == pytest.approx(2 / 24, rel=0.02)


LETTERS = st.text("abcdefgh ", min_size=1, max_size=12)


@settings(deadline=None, max_examples=20)
@given(LETTERS, st.lists(LETTERS, min_size=2, max_size=4, unique=True))
def test_any_example_is_scored_as_the_naive_way_does(context: str, candidates: list[str]) -> None:
    # Trailing spaces of a context move to the candidates (test_tokens.py).
    example = Example("x", context.rstrip(" "), tuple(candidates), tuple(candidates), (0,))
    predictions = said_of(encoded([example, *RANKING]), 4)
    assert torch.allclose(normalised(predictions.scores[0]), normalised(naive_scores(MODEL, example)), atol=1e-4)
