"""Encoded rows: the model's input, and the positions of the scored outputs."""

from __future__ import annotations

import pytest
import torch

from gfpet.data.examples import Example
from gfpet.errors import DataError
from gfpet.lm.families.gpt2 import GPT2
from gfpet.lm.scoring import backbone_of, batches, candidate_scores, collate, encode, head_of
from tests.tiny import END, RANKING, VERBALIZER, ByteTokenizer, encoded, tiny_gpt2


def test_one_token_candidates_share_a_row() -> None:
    [example] = encoded([VERBALIZER[0]])
    [row] = example.rows
    assert row.tokens == tuple(b"abc")
    assert row.targets == ((ord("y"),), (ord("n"),))
    assert row.start == 2


def test_longer_candidates_have_a_row_each_without_their_last_token() -> None:
    [example] = encoded([RANKING[0]])
    assert [bytes(row.tokens) for row in example.rows] == [b"the cat sa", b"the cat ran of", b"the cat i"]
    assert [row.targets for row in example.rows] == [((*b" sat",),), ((*b" ran off",),), ((*b" is",),)]
    assert {row.start for row in example.rows} == {6}


def test_rows_are_numbered_over_the_whole_set() -> None:
    rows = encoded([VERBALIZER[0], RANKING[0], RANKING[1], VERBALIZER[1]])
    assert [example.first_row for example in rows] == [0, 1, 4, 6]
    assert collate([rows[2], rows[0]], pad=END).row_numbers == (4, 5, 0)


def test_a_long_context_loses_its_beginning_and_never_its_candidate() -> None:
    text = "0123456789"
    [short, long] = encode(
        [
            Example("a", text, ("y", "n"), ("0", "1"), (0,)),
            Example("b", text, ("xyz", "w"), ("0", "1"), (0,)),
        ],
        ByteTokenizer(),
        max_length=5,
    )
    assert bytes(short.rows[0].tokens) == b"56789"
    assert short.rows[0].start == 4
    assert [bytes(row.tokens) for row in long.rows] == [b"789xy", b"789"], "all candidates see the same context"
    assert [row.start for row in long.rows] == [2, 2]
    assert long.rows[0].targets == ((*b"xyz",),)
    assert (short.cut, long.cut) == (5, 7)


def test_a_cut_context_scores_as_the_shorter_one_does() -> None:
    model = tiny_gpt2()
    long, short = (Example("x", text, ("abc", "de"), ("0", "1"), (0,)) for text in ("0123456789", "789"))
    scores = []
    for example in (long, short):
        batch = collate(encode([example], ByteTokenizer(), max_length=5 if example is long else 40), pad=END)
        scores.append(candidate_scores(backbone_of(model, GPT2)(batch), head_of(model), batch))
    assert float(scores[0][0, 0]) == pytest.approx(float(scores[1][0, 0]), abs=1e-6)


def test_an_empty_context_is_the_end_of_a_text() -> None:
    [example] = encoded([Example("x", "", ("a", "b"), ("0", "1"), (0,))])
    assert example.rows[0].tokens == (END,)


@pytest.mark.parametrize(("candidate", "tokens"), [("", 0), ("abcdef", 6)])
def test_a_candidate_that_cannot_be_scored_is_said(candidate: str, tokens: int) -> None:
    example = Example("cb/val/3", "x", ("y", candidate), ("0", "1"), (0,))
    with pytest.raises(DataError, match=rf"cb/val/3: candidate '{candidate}' has {tokens} tokens; 1 to 5 fit in"):
        encode([example], ByteTokenizer(), max_length=6)


def test_a_batch_knows_what_is_padding() -> None:
    batch = collate(encoded([VERBALIZER[0], VERBALIZER[1]]), pad=END)
    text = batch.texts["decoder"]
    assert text.ids.shape == (2, 12)
    assert batch.size == 24
    assert text.lengths == (3, 12)
    assert batch.is_real["decoder"].sum(1).tolist() == [3, 12]
    assert text.ids[0, 3:].eq(END).all()


def test_reads_are_shared_between_candidates_that_need_the_same() -> None:
    batch = collate(encoded(VERBALIZER[:2]), pad=END)
    assert batch.read_row.tolist() == [0, 1]
    assert batch.read_position.tolist() == [2, 11]
    assert batch.target_read.tolist() == [0, 0, 1, 1]
    assert batch.target_candidate.tolist() == [0, 1, 2, 3]


def test_gold_and_width_follow_the_widest_example() -> None:
    batch = collate(encoded(RANKING), pad=END)
    assert not batch.one_position
    assert batch.exists.sum(1).tolist() == [3, 2, 5]
    assert [line.nonzero().flatten().tolist() for line in batch.gold] == [[1], [0, 1], [2, 4]]


def test_batches_start_with_the_longest_and_name_every_example_once() -> None:
    rows = encoded([*VERBALIZER, *RANKING])
    found = list(batches(rows, size=4, pad=END))
    assert [len(indices) for indices, _ in found] == [4, 4, 1]
    assert sorted(index for indices, _ in found for index in indices) == list(range(9))
    lengths = [batch.texts["decoder"].ids.shape[1] for _, batch in found]
    assert lengths == sorted(lengths, reverse=True)
    assert [indices for indices, _ in batches(rows, size=5, pad=END, order=[3, 1])] == [[3, 1]]


def test_moving_a_batch_moves_all_its_tensors() -> None:
    batch = collate(encoded(RANKING), pad=END).to(torch.device("meta"))
    tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    tensors += [text.ids for text in batch.texts.values()]
    assert len(tensors) == 8
    assert {tensor.device.type for tensor in tensors} == {"meta"}
