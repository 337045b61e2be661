"""Task files: shipped files load, and errors name the key; no other exception occurs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gfpet.config import SHIPPED_TASKS, task_file, task_names
from gfpet.data import find_task, load_task_file, scored_task, shipped_tasks
from gfpet.data.templates import fill, placeholders
from gfpet.errors import DataError

TICKETS: dict[str, Any] = {
    "name": "tickets",
    "version": 1,
    "data": {"train": "tickets.csv"},
    "template": "{text}\nQueue:",
    "labels": {"bill": " Billing", "bug": " Bug"},
    "metrics": ["accuracy"],
}
QUIZ: dict[str, Any] = {
    "name": "quiz",
    "version": 1,
    "data": {"train": "quiz.jsonl"},
    "template": "{question}",
    "candidates": {"column": "options"},
    "metrics": ["accuracy"],
}


def write(folder: Path, values: Any, name: str = "tickets") -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is valid YAML
    return path


@pytest.mark.parametrize("name", ["boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc"])
def test_each_shipped_file_loads(name: str) -> None:
    task = load_task_file(SHIPPED_TASKS / f"{name}.yaml")
    assert (task.name, task.version) == (name, 1)
    assert task == shipped_tasks()[name] == find_task(name)
    assert task.release
    assert task.release.folder.lower() == name


def test_shipped_tasks_are_what_the_configuration_allows(tmp_path: Path) -> None:
    assert list(shipped_tasks()) == task_names(tmp_path) == sorted(shipped_tasks())
    assert len(shipped_tasks()) == 8
    write(tmp_path / "task_files", TICKETS)
    assert task_names(tmp_path) == [*shipped_tasks(), "tickets"]
    assert task_file("tickets", tmp_path) == tmp_path / "task_files" / "tickets.yaml"
    assert task_file("../task_files/tickets", tmp_path) is None


def test_the_examples_of_the_readme_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "task_files" / "README.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    names = []
    for block in blocks:
        path = write(tmp_path, {})
        path.write_text(block, encoding="utf-8")
        names.append(load_task_file(path).name)
    assert names == ["tickets", "quiz"]


def test_a_label_may_be_written_as_yaml_has_it(tmp_path: Path) -> None:
    path = write(tmp_path, TICKETS)
    path.write_text(
        "name: tickets\nversion: 1\ndata: {train: t.csv}\ntemplate: '{text}'\n"
        "labels: {true: ' Yes', 0: ' No', yes: ' Sure'}\nmetrics: {points: accuracy}\n"
    )
    task = load_task_file(path)
    assert task.labels == {"true": " Yes", "0": " No", "yes": " Sure"}
    assert task.metrics == {"points": "accuracy"}


@pytest.mark.parametrize(
    ("base", "change", "told"),
    [
        (TICKETS, {"templat": "x"}, "templat: unknown key; did you mean 'template'?; allowed here: name, version"),
        (TICKETS, {"template": ...}, "template: missing"),
        (TICKETS, {"version": "1"}, "version: found '1'; Input should be a valid integer"),
        (TICKETS, {"version": 0}, "version: found 0; Input should be greater than or equal to 1"),
        (TICKETS, {"name": "my-task"}, "name: found 'my-task'; it must be of letters, digits and _"),
        (TICKETS, {"data": ...}, "data: give either 'data'"),
        (TICKETS, {"data": {"train": "a.csv", "evel": "b.csv"}}, "data.evel: unknown key; did you mean 'eval'?"),
        (TICKETS, {"data": {"train": "a", "eval": "b", "eval_part": 0.1}}, "data.eval_part: it says which part"),
        (TICKETS, {"rows": "flt"}, "rows: found 'flt'; allowed: flat, multirc, record, wsc; did you mean 'flat'?"),
        (TICKETS, {"rows": "wsc"}, "labels: rows of format wsc need 'candidates' instead"),
        (TICKETS, {"metrics": ["acuracy"]}, "did you mean 'accuracy'?"),
        (TICKETS, {"metrics": []}, "metrics: found []; Value should have at least 1 item"),
        (TICKETS, {"metrics": {"score": "accuracy"}}, "metrics.score: 'score' is the name of the mean"),
        (TICKETS, {"labels": ...}, "labels: give either 'labels'"),
        (TICKETS, {"labels": {"bill": " Billing"}}, "labels: found 1; at least two"),
        (TICKETS, {"labels": {"bill": " A", "bug": " A"}}, "labels.bug: 'bill' has the same verbalizer ' A'"),
        (TICKETS, {"labels": {"bill": " A", "bug": " "}}, "labels.bug: its verbalizer is empty"),
        (TICKETS, {"template": "{text} "}, "template: it ends in white space"),
        (TICKETS, {"template": "{text"}, "template: expected '}' before end of string"),
        (TICKETS, {"template": "{} {text!r}"}, "template: '{}' names no field"),
        (TICKETS, {"template": "Queue:"}, "it names no {field}"),
        (TICKETS, {"template": "{text} {label}"}, "template: {label} is the column of the right answer"),
        (TICKETS, {"template": "{idx} {text}"}, "template: {idx} is the number of the row"),
        (TICKETS, {"fields": {"text": "txt"}}, "fields.text.type: found 'txt'; allowed: text, any_text, index"),
        (TICKETS, {"fields": {"text": {"kind": "text"}}}, "fields.text.kind: unknown key; allowed here: type"),
        (TICKETS, {"fields": {"text": {"type": "number", "without_end": "."}}}, "without_end need type text"),
        (TICKETS, {"fields": {"label": "boolean"}}, "a boolean has the labels true and false, found bill, bug"),
        (TICKETS, {"spans": [{"start": "a", "end": "b", "within": "text"}]}, "spans: 'a' must be declared"),
        (QUIZ, {"candidates": {}}, "candidates: give either 'fields'"),
        (QUIZ, {"candidates": {"fields": ["a"]}}, "candidates.fields: found ['a']; name at least two columns"),
        (QUIZ, {"candidates": {"column": "options", "template": " {x}"}}, "it must name {candidate}"),
        (QUIZ, {"template": "{options}"}, "template: {options} is a list of candidates"),
        (QUIZ, {"metrics": ["f1"]}, "metrics.f1: 'f1' needs the same labels in every example"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_its_key(
    tmp_path: Path, base: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    values = {key: value for key, value in (base | change).items() if value is not ...}
    with pytest.raises(DataError) as caught:
        load_task_file(write(tmp_path, values))
    assert str(caught.value).startswith(f"{tmp_path / 'tickets.yaml'}: ")
    assert told in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    values = TICKETS | {"labels": {"bill": " A"}, "metrics": ["acuracy"], "template": "{label} "}
    with pytest.raises(DataError, match="4 problems") as caught:
        load_task_file(write(tmp_path, values))
    assert all(key in str(caught.value) for key in ("metrics.acuracy", "labels: found 1", "{label} is the column"))


def test_what_is_no_yaml_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, TICKETS)
    for text in ("name: [", "name: a\nname: b\n", "- 1", "", "a: &x [*x]", 'name: "\\ud800"'):
        path.write_text(text)
        with pytest.raises(DataError, match=r"tickets\.yaml"):
            load_task_file(path)


def test_names_must_agree_and_be_new(tmp_path: Path) -> None:
    write(tmp_path / "task_files", TICKETS, "other")
    with pytest.raises(DataError, match=r"name: found 'tickets', but the file's name makes it 'other'"):
        find_task("other", tmp_path)
    with pytest.raises(DataError, match=r"unknown task 'othr'; did you mean 'other'\? Allowed: boolq, cb"):
        find_task("othr", tmp_path)
    write(tmp_path / "task_files", TICKETS | {"name": "cb"}, "cb")
    with pytest.raises(DataError, match="'cb' is the name of a shipped task"):
        find_task("cb", tmp_path)


def test_an_own_task_scores_by_the_copy_that_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"unknown task 'tickets'.*run the stage 'prepare' first"):
        scored_task("tickets")
    write(tmp_path / "outputs/prepare/tickets", TICKETS, "task")
    assert scored_task("tickets").metrics == {"accuracy": "accuracy"}
    assert scored_task("cb") == find_task("cb")


@given(text=st.text("ab{}", max_size=12), values=st.text("{}x", max_size=5))
def test_a_template_is_filled_as_python_would(text: str, values: str) -> None:
    try:
        named = placeholders(text)
    except ValueError:
        return
    assert fill(text, dict.fromkeys(named, values)) == text.format(**dict.fromkeys(named, values))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | st.text("ab{} .\ud800", max_size=5)
    | st.sampled_from(["text", "label", "accuracy", "{text}", "flat", "wsc", "idx"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abxt", max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
KEYS = [*shipped_tasks()["cb"].model_dump(), "extra"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(base=st.sampled_from([TICKETS, QUIZ]), key=st.sampled_from(KEYS), value=VALUES)
def test_any_value_anywhere_is_taken_or_told(tmp_path: Path, base: dict[str, Any], key: str, value: object) -> None:
    path = write(tmp_path, base | {key: value})
    told = ""
    try:
        assert placeholders(load_task_file(path).template)
    except DataError as error:
        told = str(error)
    assert not told or str(path) in told
