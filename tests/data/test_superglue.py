"""The real release, if GFPET_SUPERGLUE names its folder or `../shared/superglue` exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfpet.data import (
    Example,
    build_examples,
    check_rows,
    find_task,
    majority,
    prepare_task,
    read_directory,
    shipped_tasks,
)

OFFICIAL = {
    "boolq": (9427, 3270),
    "cb": (250, 56),
    "copa": (400, 100),
    "multirc": (27243, 4848),
    "rte": (2490, 277),
    "wic": (5428, 638),
    "wsc": (554, 104),
}
"""Numbers of train and val examples; the folder may have only a sample of ReCoRD's 100,730 and 10,000."""


def _examples(task: str, root: Path) -> tuple[list[Example], list[Example]]:
    source = read_directory(find_task(task), root)
    both = []
    for split, raw in (("train", source.train), ("val", source.val)):
        rows, broken = check_rows(find_task(task), raw.rows)
        assert broken == []
        both.append(build_examples(find_task(task), split, rows))
    return both[0], both[1]


@pytest.mark.parametrize("task", list(shipped_tasks()))
def test_every_row_becomes_an_example(task: str, superglue: Path) -> None:
    train, val = _examples(task, superglue)
    assert len({example.id for example in train + val}) == len(train) + len(val)
    assert all(not example.context.endswith(" ") for example in train + val)
    if task in OFFICIAL:
        assert (len(train), len(val)) == OFFICIAL[task]
    else:
        assert train
        assert val
    if not shipped_tasks()[task].ranking:
        assert {example.labels for example in train + val} == {tuple(shipped_tasks()[task].labels or ())}


def test_few_wsc_texts_have_no_other_span(superglue: Path) -> None:
    train, val = _examples("wsc", superglue)
    alone = [
        example
        for example in train + val
        if len(example.labels) == 2 and example.context.endswith(f"\nIn this text, {example.labels[1]} refers to")
    ]
    assert len(alone) <= 0.03 * (len(train) + len(val))


@pytest.mark.parametrize(
    ("task", "metric", "value"),
    [("boolq", "accuracy", 0.622), ("cb", "accuracy", 0.5), ("rte", "accuracy", 0.527), ("wsc", "accuracy", 0.635)],
)
def test_the_majority_scores_what_is_known(task: str, metric: str, value: float, superglue: Path) -> None:
    assert majority(task, _examples(task, superglue)[1])[metric] == pytest.approx(value, abs=0.001)


def test_preparing_a_real_task(superglue: Path, tmp_path: Path) -> None:
    source = read_directory(find_task("cb"), superglue)
    manifest = prepare_task(find_task("cb"), source, tmp_path, train_size=1200, dev_size=200, eval_size=500, seed=0)
    assert {name: written["examples"] for name, written in manifest["splits"].items()} == {
        "train": 200,
        "dev": 50,
        "eval": 56,
    }
