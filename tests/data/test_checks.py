"""Detection of broken rows, and their error messages."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gfpet.data import BrokenRow, BrokenRowsError, check_rows, find_task, read_directory
from gfpet.errors import DataError

from .conftest import Rows, raw


def _changed(row: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(row)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target: Any = changed
    for part in parents:
        target = target[part]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return changed


@pytest.mark.parametrize(
    ("task", "path", "value", "reason"),
    [
        ("boolq", "label", ..., "label: Field required"),
        ("boolq", "label", None, "label: Input should be a valid boolean (found null)"),
        ("boolq", "label", 1, "label: Input should be a valid boolean (found 1)"),
        ("boolq", "idx", "0", "idx: Input should be a valid integer (found '0')"),
        ("boolq", "idx", True, "idx: Input should be a valid integer (found True)"),
        ("boolq", "idx", -1, "idx: Input should be greater than or equal to 0 (found -1)"),
        ("boolq", "passage", " \n", "passage: empty (found ' \\n')"),
        ("boolq", "passage", "a\ud800", "passage: half of a surrogate pair at character 1 (found 'a\\ud800')"),
        ("cb", "label", "maybe", "label: Input should be 'entailment', 'contradiction' or 'neutral' (found 'maybe')"),
        ("rte", "label", "neutral", "label: Input should be 'entailment' or 'not_entailment' (found 'neutral')"),
        ("copa", "label", 2, "label: Input should be less than or equal to 1 (found 2)"),
        ("copa", "question", "reason", "question: Input should be 'cause' or 'effect' (found 'reason')"),
        ("wic", "end1", 14, "start1, end1: 2 to 14 (exclusive) is not within the 13 characters of the text"),
        ("wic", "start2", -1, "start2, end2: -1 to 8 (exclusive) is not within the 9 characters of the text"),
        ("wsc", "target.span1_text", "", "target.span1_text: empty (found '')"),
        (
            "wsc",
            "target.span2_index",
            19,
            "target.span2_index: 19 to 20 (exclusive) is not within the 19 words of the text",
        ),
        ("wsc", "target", [], "target: Input should be a valid dictionary or instance of WscTarget (found [])"),
        ("multirc", "passage.questions", [], "passage.questions: List should have at least 1 item after validation"),
        ("multirc", "passage.questions.0.answers.1.label", ..., "passage.questions.0.answers.1.label: Field required"),
        ("multirc", "passage.questions.0.answers.1.idx", 120, "passage.questions.0: answers: an idx occurs twice"),
        ("multirc", "passage.questions.0.answers.1.label", True, "label: Input should be a valid integer (found True)"),
        (
            "record",
            "passage.entities.0.end",
            37,
            "passage: entities.0: 0 to 38 (exclusive) is not within the 37 characters",
        ),
        ("record", "passage.entities", [{"start": 0, "end": 2}], "passage: entities: 1 distinct, but at least two"),
        ("record", "qas.0.query", "Long live him.", "qas.0.query: no @placeholder in it"),
        ("record", "qas.0.answers", [{"text": "Zed"}], "qas.0.answers: none of them is among the passage's entities"),
        ("record", "qas.0.answers", [], "qas.0.answers: List should have at least 1 item after validation, not 0"),
    ],
)
def test_a_broken_value_is_named(rows: Rows, task: str, path: str, value: object, reason: str) -> None:
    whole, broken = check_rows(find_task(task), raw([rows[task][1], _changed(rows[task][0], path, value)]))
    assert len(whole) == 1
    assert [row.origin for row in broken] == ["rows.jsonl:2"]
    assert len(broken[0].reasons) == 1
    assert reason in broken[0].reasons[0]


def test_all_reasons_of_a_row_are_given_and_the_rest_is_still_checked(rows: Rows) -> None:
    row = {"idx": "x", "passage": "", "question": None}
    whole, broken = check_rows(find_task("boolq"), raw([row, rows["boolq"][0], None, 7, rows["boolq"][0]]))
    assert len(whole) == 1
    assert [len(one.reasons) for one in broken] == [4, 1, 1, 1]
    assert [str(one) for one in broken[1:]] == [
        "rows.jsonl:3: not an object but null",
        "rows.jsonl:4: not an object but 7",
        "rows.jsonl:5: idx: 0 again, first at rows.jsonl:2",
    ]


def test_an_empty_answer_option_is_accepted_as_the_release_has_three(rows: Rows) -> None:
    row = _changed(rows["multirc"][0], "passage.questions.0.answers.0.text", "")
    assert check_rows(find_task("multirc"), raw([row]))[1] == []


def test_lines_that_cannot_be_decoded_are_named(release: Callable[[Rows], Path], rows: Rows) -> None:
    root = release({"boolq": rows["boolq"]})
    path = root / "BoolQ" / "train.jsonl"
    path.write_bytes(path.read_bytes() + b'\n{"idx": 3\n{"passage": "\xff"}\n')
    whole, broken = check_rows(find_task("boolq"), read_directory(find_task("boolq"), root).train.rows)
    assert len(whole) == 2  # U+2028 in the second row is no line break
    assert [row.origin for row in broken] == [f"{path}:3", f"{path}:4", f"{path}:5"]
    assert broken[0].reasons == ("an empty line",)
    assert broken[1].reasons[0].startswith("not JSON: Expecting ',' delimiter")
    assert broken[2].reasons == ("not UTF-8: byte 0xff at position 13",)


def test_the_error_counts_all_and_lists_twenty() -> None:
    error = BrokenRowsError([BrokenRow(f"f:{line}", ("empty",)) for line in range(1, 24)])
    assert len(error.rows) == 23
    lines = str(error).splitlines()
    assert lines[0] == "23 broken rows:"
    assert lines[20:22] == ["  f:20: empty", "  and 3 more"]


def test_a_tilde_is_the_home_folder(
    release: Callable[[Rows], Path], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = release({"boolq": rows["boolq"]})
    monkeypatch.setenv("HOME", str(root.parent))
    found = read_directory(find_task("boolq"), f"~/{root.name}")
    assert found.id == str(root)
    assert found.train == read_directory(find_task("boolq"), root).train


def test_missing_folders_and_files_say_what_is_there(release: Callable[[Rows], Path], rows: Rows) -> None:
    root = release({"boolq": rows["boolq"]})
    with pytest.raises(DataError, match="there is no folder"):
        read_directory(find_task("boolq"), root / "nowhere")
    (root / "BoolQ").rename(root / "Boolq-1")
    with pytest.raises(DataError, match=r"has no folder BoolQ \(is 'Boolq-1' meant"):
        read_directory(find_task("boolq"), root)
    (root / "CB").mkdir()
    (root / "CB" / "train.json").touch()
    with pytest.raises(DataError, match=r"CB holds train\.json, but needs train\.jsonl, val\.jsonl"):
        read_directory(find_task("cb"), root)
    with pytest.raises(DataError, match="unknown task 'bolq'; did you mean 'boolq'"):
        read_directory(find_task("bolq"), root)
