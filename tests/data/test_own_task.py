"""A user's own task: from task file and data files through stage `prepare`, and errors for broken data."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gfpet.config import apply_preset
from gfpet.data import Example, check_rows, find_task, majority, prepare_task, read_examples, read_files, score
from gfpet.errors import DataError
from gfpet.stages.prepare import prepare

from .test_task_files import QUIZ, TICKETS, write

ROOT = Path(__file__).parents[2]
SIZES: dict[str, Any] = {"train_size": None, "dev_size": 2, "eval_size": None, "seed": 0}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "presets").mkdir()
    (tmp_path / "task_files").mkdir()
    for name in ("DVC_STAGE", "DVC_ROOT", "GFPET_PARENT_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue()


def prepared(folder: str, split: str) -> list[Example]:
    return read_examples(Path("outputs/prepare") / folder / f"{split}.jsonl")


def test_classes_from_csv_and_candidates_from_json_lines_go_through_the_stage(project: Path) -> None:
    folder = project / "task_files"
    write(folder, TICKETS | {"metrics": ["accuracy", "f1"], "data": {"train": "tickets.csv", "eval_part": 0.25}})
    rows = [["text", "label"]] + [[f"No. {at},\nsecond line", "bug" if at % 3 else "bill"] for at in range(40)]
    (folder / "tickets.csv").write_text("\ufeff" + table(rows), encoding="utf-8")
    quiz = QUIZ | {"label": "answer", "data": {"train": "quiz.jsonl", "eval": "test.jsonl"}}
    write(folder, quiz, "quiz")
    questions = [{"question": f"1 + {at} =", "options": ["0", str(at + 1)], "answer": 1} for at in range(10)]
    (folder / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (folder / "test.jsonl").write_text('{"question": "2 + 2 =", "options": ["4", "3", "5"], "answer": "4"}\n')
    apply_preset(None, ["tasks=[cb, tickets, quiz]", "prepare.dev_size=4"], project / "params.yaml")
    prepare()

    splits = {split: prepared("tickets", split) for split in ("train", "dev", "eval")}
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 26, "dev": 4, "eval": 10}
    ids = [example.id.split("/") for examples in splits.values() for example in examples]
    assert sorted(int(number) for _, _, number in ids) == list(range(1, 41))
    first = next(example for examples in splits.values() for example in examples if example.id.endswith("/1"))
    assert (first.context, first.candidates) == ("No. 0,\nsecond line\nQueue:", (" Billing", " Bug"))
    assert (first.labels, first.gold, first.group) == (("bill", "bug"), (0,), "")
    assert score("tickets", splits["eval"], [0] * 10).keys() == {"accuracy", "f1", "score"}
    manifest = json.loads((project / "outputs/prepare/tickets/manifest.json").read_text())
    assert (manifest["source"]["kind"], manifest["source"]["id"]) == ("files", "task_files/tickets.yaml")
    assert [note.split(":")[0] for note in manifest["notes"]] == ["train", "eval"]
    copy = project / "outputs/prepare/tickets/task.yaml"
    assert copy.read_bytes() == (folder / "tickets.yaml").read_bytes()

    (example,) = prepared("quiz", "eval")
    assert example == Example("quiz/val/1", "2 + 2 =", (" 4", " 3", " 5"), ("4", "3", "5"), (0,))
    assert majority("quiz", prepared("quiz", "train"))["accuracy"] == 1.0
    assert not (project / "outputs/prepare/cb/task.yaml").exists()
    assert len(prepared("cb", "eval")) == 500


def _source(folder: Path, values: dict[str, Any]) -> Any:
    path = write(folder / "task_files", values, values["name"])
    return read_files(find_task(values["name"], folder), path)


def test_the_same_rows_from_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "task_files"
    folder.mkdir()
    rows = [{"text": f"text {at}", "label": at % 2} for at in range(10)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "t.csv").write_text(table([["text", "label"]] + [[str(item) for item in row.values()] for row in rows]))
    (folder / "t.tsv").write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))
    pq.write_table(pa.Table.from_pylist([{**row, "label": float(row["label"])} for row in rows]), folder / "t.parquet")
    written = []
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        values = TICKETS | {"labels": {"0": " No", "1": " Yes"}, "data": {"train": f"t.{ending}"}}
        out = tmp_path / ending
        source = _source(tmp_path, values)
        prepare_task(find_task("tickets", tmp_path), source, out, **SIZES)
        written.append([(out / f"{split}.jsonl").read_bytes() for split in ("train", "dev", "eval")])
        assert len(source.val.rows) == 2
    assert written.count(written[0]) == 4


def test_rows_of_a_group_and_repeated_texts_stay_on_one_side(tmp_path: Path) -> None:
    folder = tmp_path / "task_files"
    folder.mkdir()
    rows = [{"text": f"text {at // 2}", "label": "bug", "who": at % 7} for at in range(40)]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for values, column in ((TICKETS, "text"), (TICKETS | {"group": "who"}, "who")):
        source = _source(tmp_path, values | {"data": {"train": "t.jsonl", "eval_part": 0.5, "seed": 3}})
        sides = [{row.value[column] for row in split.rows} for split in (source.train, source.val)]
        assert not sides[0] & sides[1]
        assert len(source.train.rows) + len(source.val.rows) == 40
    checked, broken = check_rows(find_task("tickets", tmp_path), source.val.rows)
    assert broken == []
    assert {row.value["who"] for row in checked} == sides[1]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "txt,label\na,bug\n", r"t\.csv has no column 'text', which .*tickets\.yaml names; is 'txt' meant\?"),
        ("t.csv", "text,text\na,bug\n", r"t\.csv:1: the first line names columns twice: text"),
        ("t.csv", "text,label\n", r"t\.csv has no rows"),
        ("t.csv", "", r"t\.csv has no rows"),
        ("t.csv", 'text,label\n"a,bug\n', r"t\.csv:2: not a table: unexpected end of data"),
        ("t.csv", b"text,label\na,bug\n\xff,bug\n", r"t\.csv:3: not UTF-8: byte 0xff"),
        ("t.csv", "text,label\na,bug\n", r"1 different rows or groups, of which a part of 0\.2"),
        ("t.parquet", "text", r"t\.parquet is not a parquet file"),
        ("t.xlsx", "text", r"data file 't\.xlsx' has no known ending; allowed: \.jsonl, \.csv, \.tsv, \.parquet"),
        ("../t.csv", None, r"data file '\.\./t\.csv' cannot be read \(No such file or directory\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, text: str | bytes | None, told: str) -> None:
    path = tmp_path / "task_files" / name
    (tmp_path / "task_files").mkdir()
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=told):
        _source(tmp_path, TICKETS | {"data": {"train": name}})


def test_broken_rows_are_told_by_file_and_line(tmp_path: Path) -> None:
    folder = tmp_path / "task_files"
    folder.mkdir()
    (folder / "t.csv").write_text('text,label\n"a\nb",bug\n ,bug\nc,bugg\nd\n\ne,bill\n')
    source = _source(tmp_path, TICKETS | {"data": {"train": "t.csv", "eval": "t.csv"}})
    whole, broken = check_rows(find_task("tickets", tmp_path), source.train.rows)
    assert [row.value["text"] for row in whole] == ["a\nb", "e"]
    assert [str(row).removeprefix(f"{folder}/") for row in broken] == [
        "t.csv:4: text: empty (found ' ')",
        "t.csv:5: label: Input should be 'bill' or 'bug' (found 'bugg')",
        "t.csv:6: 1 cells, but the first line has 2",
        "t.csv:7: an empty line",
    ]
    lines = [
        {"question": "q", "options": ["a", "b"], "label": 2},
        {"question": "q", "options": ["a"], "label": 0},
        {"question": "q", "options": "a|b", "label": 0},
        {"question": "q", "options": ["a", "a"], "label": 0},
        {"question": "q", "options": ["a", "b"], "label": None},
        {"question": "q", "options": ["a", "b"], "label": "b"},
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n")
    source = _source(tmp_path, QUIZ | {"data": {"train": "q.jsonl", "eval": "q.jsonl"}})
    whole, broken = check_rows(find_task("quiz", tmp_path), source.train.rows)
    assert [row.idx for row in whole] == [6]
    assert [str(row).removeprefix(f"{folder}/q.jsonl:") for row in broken] == [
        "1: label: 2 is neither one of the 2 candidates nor a number from 0 to 1",
        "2: options: List should have at least 2 items after validation, not 1 (found ['a'])",
        "3: options: Input should be a valid list (found 'a|b')",
        "4: candidates: 'a' is there twice",
        "5: label: Input should be a text or a number (found null)",
        "7: not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
    ]


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | st.sampled_from(["bug", "a", "", "\ud800", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "a"]), inner, max_size=2),
    max_leaves=4,
)
COLUMNS = st.sampled_from(["text", "label", "question", "options", "idx", "x"])
LINES = st.lists(CELLS | st.dictionaries(COLUMNS, CELLS), max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, base=st.sampled_from([TICKETS, QUIZ]), grouped=st.booleans())
def test_any_rows_become_examples_or_a_data_error(
    tmp_path: Path, lines: list[object], base: dict[str, Any], grouped: bool
) -> None:
    values = base | {"data": {"train": "any.jsonl"}} | ({"group": "x"} if grouped else {})
    path = write(tmp_path / "task_files", values, base["name"])
    path.with_name("any.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task = find_task(base["name"], tmp_path)
    told = ""
    try:
        manifest = prepare_task(task, read_files(task, path), tmp_path / "out", **SIZES)
        assert manifest["splits"]["eval"]["examples"] >= 1
    except DataError as error:
        told = str(error)
    assert not told or "any.jsonl" in told or "at least two" in told


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40) | st.text('text,label\n"ab', max_size=40).map(str.encode))
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_any_bytes_are_read_or_a_data_error(tmp_path: Path, ending: str, data: bytes) -> None:
    path = write(tmp_path / "task_files", TICKETS | {"data": {"train": f"any.{ending}"}})
    path.with_name(f"any.{ending}").write_bytes(data)
    task = find_task("tickets", tmp_path)
    file, told = str(path.with_name(f"any.{ending}")), ""
    try:
        assert all(row.origin.startswith(file) for row in read_files(task, path).train.rows)
    except DataError as error:
        told = str(error)
    assert not told or f"any.{ending}" in told


def test_real_sentences_with_polarity(text_tasks: Path, tmp_path: Path) -> None:
    values = TICKETS | {
        "data": {"train": str(text_tasks / "polarity.jsonl")},
        "template": "Review: {text}\nSentiment:",
        "labels": {"positive": " good", "negative": " bad"},
    }
    source = _source(tmp_path, values)
    task = find_task("tickets", tmp_path)
    manifest = prepare_task(task, source, tmp_path / "out", **SIZES | {"dev_size": 500})
    counts = {split: written["examples"] for split, written in manifest["splits"].items()}
    assert sum(counts.values()) == 10_662
    assert abs(counts["eval"] - 2132) < 20
    assert [note.split(" is not")[1] for note in manifest["notes"]] == [
        " in the folder of the task file: DVC does not see its changes"
    ]
    examples = read_examples(tmp_path / "out" / "eval.jsonl")
    assert 0.45 < majority(task, examples)["accuracy"] < 0.55
    texts = {read.context for read in read_examples(tmp_path / "out" / "train.jsonl")}
    assert not texts & {example.context for example in examples}


def test_real_questions_with_six_types(text_tasks: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (text_tasks / "questions-train.jsonl").read_text().splitlines()]
    values = TICKETS | {
        "data": {
            "train": str(text_tasks / "questions-train.jsonl"),
            "eval": str(text_tasks / "questions-test.jsonl"),
        },
        "labels": {label: f" {label}" for label in sorted({row["label"] for row in rows})},
        "metrics": ["accuracy", "f1_macro"],
    }
    task_source = _source(tmp_path, values)
    task = find_task("tickets", tmp_path)
    manifest = prepare_task(task, task_source, tmp_path / "out", **SIZES | {"dev_size": 300})
    examples = read_examples(tmp_path / "out" / "eval.jsonl")
    assert (len(examples), len(examples[0].candidates)) == (500, 6)
    assert manifest["splits"]["train"]["examples"] == len(rows) - 300
    assert score(task, examples, [example.gold[0] for example in examples])["score"] == 1.0
