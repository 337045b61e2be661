"""The tasks of the synthetic benchmark: form, seeds, splits, and the scores of guessing and of a perfect reader."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from gfpet.data import chance, majority, score
from gfpet.errors import DataError
from gfpet.synthetic import TASKS, Facts, baselines, facts_of_seed, generate, perfect_reader
from gfpet.synthetic.lexicon import VALUES
from gfpet.synthetic.reader import gold
from gfpet.synthetic.tasks import Row
from tests.synthetic.examples import examples_of

TRAIN, EVALUATION = 2000, 1000
LABELS = {
    "boolq": {True, False},
    "cb": {"entailment", "contradiction", "neutral"},
    "copa": {0, 1},
    "rte": {"entailment", "not_entailment"},
    "wic": {True, False},
    "wsc": {True, False},
}
KEYS = {
    "boolq": {"idx", "label", "passage", "question"},
    "cb": {"idx", "label", "premise", "hypothesis"},
    "copa": {"idx", "label", "premise", "choice1", "choice2", "question"},
    "multirc": {"idx", "passage", "version"},
    "record": {"idx", "passage", "qas", "source"},
    "rte": {"idx", "label", "premise", "hypothesis"},
    "wic": {"idx", "label", "word", "sentence1", "sentence2", "start1", "end1", "start2", "end2", "version"},
    "wsc": {"idx", "label", "target", "text"},
}


@pytest.fixture(scope="module", params=sorted(TASKS))
def benchmark(request: pytest.FixtureRequest) -> tuple[str, list[Row], list[Row]]:
    return (request.param, *generate(request.param, 0, TRAIN, EVALUATION))


def content(row: Row) -> str:
    """The text of a row: the row without its indices."""
    return re.sub(r'"idx": \d+', "", json.dumps(row, sort_keys=True))


def names(row: Row) -> set[str]:
    return {word for word in re.findall(r"\w+", json.dumps(row)) if word in facts_of_seed().entities}


def test_the_same_seed_gives_the_same_rows(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, train, evaluation = benchmark
    assert generate(task, 0, TRAIN, EVALUATION) == (train, evaluation)


def test_another_seed_gives_other_rows(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, train, evaluation = benchmark
    other_train, other_evaluation = generate(task, 1, TRAIN, EVALUATION)
    assert train != other_train
    assert evaluation != other_evaluation


def test_splits_have_the_sizes_asked_for_and_repeat_nothing(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    _, train, evaluation = benchmark
    assert (len(train), len(evaluation)) == (TRAIN, EVALUATION)
    assert len({content(row) for row in train + evaluation}) == TRAIN + EVALUATION
    for rows in (train, evaluation):
        assert [row["idx"] for row in rows] == [*range(len(rows))]


def test_splits_share_no_entity(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    _, train, evaluation = benchmark
    sides = [{name for row in rows for name in names(row)} for rows in (train, evaluation)]
    assert not sides[0] & sides[1]
    assert not any(facts_of_seed().entities[name].evaluation for name in sides[0])
    assert all(facts_of_seed().entities[name].evaluation for name in sides[1])


def test_rows_have_the_keys_and_labels_of_the_release(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, train, evaluation = benchmark
    for row in train + evaluation:
        assert set(row) == KEYS[task]
        assert json.loads(json.dumps(row)) == row
        if task in LABELS:
            assert row["label"] in LABELS[task]
            assert type(row["label"]) is type(next(iter(LABELS[task])))


def test_the_perfect_reader_is_always_right(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, train, evaluation = benchmark
    assert all(perfect_reader(task, row) == gold(task, row) for row in train + evaluation)


def test_the_perfect_reader_does_not_look_at_the_label(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, _, evaluation = benchmark
    for row in evaluation[:50]:
        blind = json.loads(json.dumps(row))
        blind.pop("label", None)
        for query in blind.get("qas", []):
            query.pop("answers")
        if task == "multirc":
            for answer in blind["passage"]["questions"][0]["answers"]:
                answer.pop("label")
        assert perfect_reader(task, blind) == gold(task, row)


def test_chance_and_majority(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, train, evaluation = benchmark
    chance = 100 / 3 if task in {"cb", "record"} else 50.0
    for rows in (train, evaluation):
        scores = baselines(task, rows)
        assert scores["chance"] == pytest.approx(chance)
        # Balanced by construction, except for the random position of ReCoRD's answer.
        assert scores["majority"] == pytest.approx(chance, abs=4.0 if task == "record" else 0.1)


def choices(task: str, rows: list[Row]) -> list[int]:
    """The perfect reader's answers as candidate indices of the examples."""
    answers = [perfect_reader(task, row) for row in rows]
    match task:
        case "cb" | "rte":
            return [
                ("entailment", "contradiction" if task == "cb" else "not_entailment", "neutral").index(a)
                for a in answers
            ]
        case "copa":
            return answers
        case "multirc":
            return [1 - label for labels in answers for label in labels]
        case "record":
            texts = [row["passage"] for row in rows]
            names = [
                list(dict.fromkeys(text["text"][e["start"] : e["end"] + 1] for e in text["entities"])) for text in texts
            ]
            return [listed.index(found) for listed, (found,) in zip(names, answers, strict=True)]
        case _:
            return [int(not answer) for answer in answers]


GUESSES = {"cb": (100 / 3, 25.0), "multirc": (28.1, 100 / 3), "record": (100 / 3, 100 / 3)}
"""Chance and majority in points of the official score, for tasks where they are not 50. CB: mean of accuracy and macro
F1. MultiRC: mean of the answers' F1 (50 and 66.7) and of questions with all four answers right (1 in 16, and none)."""


def test_official_scores_of_knowing_everything_and_of_guessing(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    task, _, evaluation = benchmark
    examples = examples_of(task, "val", evaluation)
    assert score(task, examples, choices(task, evaluation))["score"] == 1.0
    expected = GUESSES.get(task, (50.0, 50.0))
    assert 100 * chance(task, examples)["score"] == pytest.approx(expected[0], abs=1.0)
    assert 100 * majority(task, examples)["score"] == pytest.approx(expected[1], abs=4.0 if task == "record" else 0.1)


def test_no_row_states_what_it_asks(benchmark: tuple[str, list[Row], list[Row]]) -> None:
    """Passages and premises have no attribute value; only the question does."""
    task, _, evaluation = benchmark
    given = {"boolq": "passage", "cb": "premise", "rte": "premise", "wic": "sentence1"}
    values = {value for listed in VALUES.values() for value in listed}
    for row in evaluation:
        text = row["passage"]["text"] if task in {"multirc", "record"} else row.get(given.get(task, ""), "")
        assert not values & set(re.findall(r"\w+", text))


def test_offsets_point_at_their_words() -> None:
    for row in generate("wic", 0, 200, 0)[0]:
        for number in (1, 2):
            assert row[f"sentence{number}"][row[f"start{number}"] : row[f"end{number}"]] == row["word"]
    for row in generate("wsc", 0, 200, 0)[0]:
        for span in ("span1", "span2"):
            assert row["text"].split()[row["target"][f"{span}_index"]] == row["target"][f"{span}_text"]
    for row in generate("record", 0, 200, 0)[0]:
        text, entities = row["passage"]["text"], row["passage"]["entities"]
        assert {text[entity["start"] : entity["end"] + 1] for entity in entities} <= set(facts_of_seed().entities)
        for answer in row["qas"][0]["answers"]:
            assert text[answer["start"] : answer["end"] + 1] == answer["text"]
            assert {"start": answer["start"], "end": answer["end"]} in entities
        assert "@placeholder" in row["qas"][0]["query"]


def test_an_unknown_task_is_answered_with_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'boolq'"):
        generate("bolq", 0, 1, 1)
    with pytest.raises(DataError, match="Allowed: boolq, cb"):
        perfect_reader("qnli", {})


def test_asking_for_more_than_there_is_says_how_many_there_are() -> None:
    few = Facts({entity.name: entity for entity in facts_of_seed().side(evaluation=True)[:30]})
    with pytest.raises(DataError, match=r"5000 evaluation rows of 'cb'.*ask for fewer"):
        generate("cb", 0, 0, 5000, few)


def test_a_benchmark_without_a_fitting_entity_is_an_error() -> None:
    none = Facts({entity.name: entity for entity in facts_of_seed().side(evaluation=True) if entity.kind != "beast"})
    with pytest.raises(DataError, match="entities has craft 'baker' as None"):
        generate("cb", 0, 0, 3, none)


def test_the_generator_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, gfpet.synthetic; sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_benchmark_with_one_fitting_entity_is_an_error_where_two_are_asked_of() -> None:
    red = [entity for entity in facts_of_seed().side(evaluation=True) if entity.attributes.get("colour") == "red"]
    others = [entity for entity in facts_of_seed().side(evaluation=True) if entity.attributes.get("colour") == "blue"]
    one = Facts({entity.name: entity for entity in (red[0], *others)})
    with pytest.raises(DataError, match=r"only one of .* entities has colour 'red' as True"):
        generate("multirc", 0, 0, 1, one)
