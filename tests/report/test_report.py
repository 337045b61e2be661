"""The report's folder, made from the tree of `tree.py`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from gfpet.report import Scope, Table, collect, write_report
from gfpet.report._tables import size
from tests.report.tree import write_similarity, write_tree

SCOPE = Scope(families=("gpt2",), tasks=("cb", "copa"), kinds=("lora",), seeds=(0, 1), among=("readout",))

TABLES = """\
# Results

## gpt2

S is `S`, L is `L`.

### gpt2: scores

| method | cb | copa | average |
| --- | ---: | ---: | ---: |
| zero-shot L | 40.0 [35.0, 45.0] | 50.0 [45.0, 55.0] | 45.0 |
| S tuned, lora | 31.0 ± 1.4 [26.0, 36.0] | 41.0 ± 1.4 [36.0, 46.0] | 36.0 ± 1.4 |
| random W_plug, lora | 40.0 ± 0.0 [35.0, 45.0] | 50.0 ± 0.0 [45.0, 55.0] | 45.0 ± 0.0 |
| plugged L, lora | 55.0 ± 7.1 [50.0, 60.0] | 65.0 ± 7.1 [60.0, 70.0] | 60.0 ± 7.1 |
| L by gradients, lora | 80.0 ± 0.0 [75.0, 85.0] | 90.0 ± 0.0 [85.0, 95.0] | 85.0 ± 0.0 |
| L, full fine-tuning | 90.0 [85.0, 95.0] | 100.0 [95.0, 105.0] | 95.0 |

Points (0 to 100) of the mean of each task's official metrics: the mean over seeds 0, 1 ± their standard deviation; \
in brackets the bootstrap interval over the evaluated examples (means of its ends over seeds). \
An empty cell was not run.

### gpt2: gap closed

| method | cb | copa | average |
| --- | ---: | ---: | ---: |
| random W_plug, lora | 0.0 % | 0.0 % | 0.0 % |
| plugged L, lora | 37.5 % | 37.5 % | 37.5 % |

(method - zero-shot L) / (L by gradients with the same kind of module - zero-shot L); `average` is that of the average \
scores. Empty without references, or where gradients gain less than 3 points.

### gpt2: peak memory by stage

| method | tune | align | prune | bridge | readout | evaluate | reference | peak |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| zero-shot L |  |  |  |  |  | 29.0 MB |  | 29.0 MB |
| S tuned, lora | 10.0 MB |  |  |  |  |  |  | 10.0 MB |
| random W_plug, lora | 10.0 MB |  |  |  |  | 31.0 MB |  | 31.0 MB |
| plugged L, lora | 10.0 MB | 33.0 MB | 32.0 MB | 25.0 MB |  | 30.0 MB |  | 33.0 MB |
| L by gradients, lora |  |  |  |  |  |  | 90.0 MB | 90.0 MB |
| L, full fine-tuning |  |  |  |  |  |  | 160 MB | 160 MB |

Largest over tasks and seeds: bytes allocated on the GPU, or exact live tensor bytes on a CPU. A method's peak is the \
maximum over all stages that it goes through; it stays empty if one of them was not measured.

### gpt2: similarity of the modules of S and of L

| kind, measure | similarity | random map | untrained | other task | other seed |
| --- | ---: | ---: | ---: | ---: | ---: |
| lora, cosine | 0.450 | 0.010 |  | 0.200 | 0.900 |
| lora, linear cka | 0.650 | 0.010 |  | 0.200 | 0.900 |

Means over tasks and seeds after a closed-form map, beside what chance gives (random map, untrained, other task) and \
what the same model with another seed reaches (the ceiling).
"""


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_folder(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_similarity(tmp_path)
    reports = tmp_path / "reports"
    rows = write_report(collect(tmp_path, SCOPE), reports)
    assert sorted(path.name for path in reports.iterdir()) == [
        "accuracy_memory-gpt2.png",
        "accuracy_memory.csv",
        "benchmark.md",
        "memory_stages-gpt2.png",
        "memory_stages.csv",
        "results.csv",
        "results.json",
        "similarity-gpt2-lora.png",
        "similarity.csv",
        "tables.md",
    ]
    assert (reports / "tables.md").read_text() == TABLES
    assert len(rows) == len(json.loads((reports / "results.json").read_text())) == 20
    assert len(read(reports / "results.csv")) == 20
    points = {(row["task"], row["method"]): row for row in read(reports / "accuracy_memory.csv")}
    assert len(points) == 3 * 6
    assert (
        points["cb", "plugged"]["peak_memory_bytes"] == points["average", "plugged"]["peak_memory_bytes"] == "33000000"
    )
    assert float(points["average", "plugged"]["score"]) == pytest.approx(0.6)
    assert [(row["name"], row["peak_memory_bytes"]) for row in read(reports / "memory_stages.csv")] == [
        ("zero-shot L", "29000000"),
        ("tune S, lora", "10000000"),
        ("align S and L", "33000000"),
        ("prune L to the Bridge", "32000000"),
        ("train the Bridge, lora", "25000000"),
        ("infer with plugged L, lora", "30000000"),
        ("L by gradients, lora", "90000000"),
        ("L, full fine-tuning", "160000000"),
    ]
    cells = {(row["small_layer"], row["large_layer"]): float(row["value"]) for row in read(reports / "similarity.csv")}
    assert cells == {  # the mean of 0.3 and 0.5 in one cell; the rest is the same for both seeds
        (str(small), str(large)): pytest.approx(value)
        for small, line in enumerate([[0.1, 0.2, 0.4], [0.4, 0.5, 0.6]])
        for large, value in enumerate(line)
    }


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    import matplotlib

    write_tree(tmp_path)
    write_similarity(tmp_path)
    write_report(collect(tmp_path, SCOPE), tmp_path / "first")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30}):  # a user's own style
        write_report(collect(tmp_path, SCOPE), tmp_path / "second")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    assert (tmp_path / "first/accuracy_memory-gpt2.png").read_bytes().startswith(b"\x89PNG")


def test_without_references_their_columns_and_rows_stay_empty(tmp_path: Path) -> None:
    write_tree(tmp_path, references=False)
    rows = write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    assert {row.gap_closed for row in rows} == {None}
    assert {row["gap_closed"] for row in read(tmp_path / "reports/results.csv")} == {""}
    tables = (tmp_path / "reports/tables.md").read_text()
    assert "| plugged L, lora |  |  |  |\n" in tables
    assert "gradients, lora" not in tables
    assert "| plugged L, lora | 55.0 ± 7.1 [50.0, 60.0] |" in tables


def test_without_similarity_the_rest_is_there_and_the_lack_is_told(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    tables = (tmp_path / "reports/tables.md").read_text()
    assert "similarity of the modules" not in tables
    told = "## Not there when this was written\n\n- `outputs/similarity/gpt2/similarity.json`\n"
    assert tables.endswith(told)
    assert not list((tmp_path / "reports").glob("similarity*.png"))
    assert (tmp_path / "reports/similarity.csv").read_text() == "family,kind,measure,small_layer,large_layer,value\n"


def test_a_heat_map_may_lack_cells_or_all_of_them(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_similarity(tmp_path)
    path = tmp_path / "outputs/similarity/gpt2/similarity.json"
    record = json.loads(path.read_text())
    about = record["rows"][0] | {"value": 1, "seed": 0}
    maps = {"holes": [[1, None], [float("nan"), -0.5]], "nothing": [[None]]}
    record["rows"] = [about | {"measure": measure, "heatmap": heatmap} for measure, heatmap in maps.items()]
    path.write_text(json.dumps(record))
    write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    assert (tmp_path / "reports/similarity-gpt2-lora.png").is_file()
    assert [(row["measure"], row["value"]) for row in read(tmp_path / "reports/similarity.csv")] == [
        ("holes", "1.0"),
        ("holes", ""),
        ("holes", ""),
        ("holes", "-0.5"),
    ]


def test_without_memory_there_are_scores_but_no_picture_of_memory(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for path in (tmp_path / "metrics").rglob("*.json"):
        path.unlink()
    rows = write_report(collect(tmp_path, SCOPE), tmp_path / "reports")
    assert {row.peak_memory_bytes for row in rows} == {None}
    assert not list((tmp_path / "reports").glob("*.png"))
    assert len(read(tmp_path / "reports/accuracy_memory.csv")) == 3 * 6


def test_one_seed_has_no_spread_and_a_task_without_a_score_no_average(tmp_path: Path) -> None:
    write_tree(tmp_path, tasks=("cb",))
    scope = Scope(("gpt2",), ("cb", "copa"), ("lora",), (1,), ("readout",))
    write_report(collect(tmp_path, scope), tmp_path / "reports")
    tables = (tmp_path / "reports/tables.md").read_text()
    assert "| plugged L, lora | 60.0 [55.0, 65.0] |  |  |\n" in tables
    assert "the mean over seed 1; in brackets" in tables


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, ""), (999, "999 B"), (1234, "1.23 kB"), (12_345_678, "12.3 MB"), (83_500_000_000, "83.5 GB")],
)
def test_sizes_have_three_figures(count: int | None, text: str) -> None:
    assert size(count) == text


def test_a_table_as_text_is_in_columns() -> None:
    table = Table("scores", ("method", "cb"), [("zero-shot L", "4.0"), ("x", "40.0")])
    assert table.text() == "scores\n\nmethod         cb\nzero-shot L   4.0\nx            40.0\n"
