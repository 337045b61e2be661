"""The program `python -m gfpet.stages.report` in its own project folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gfpet.config import apply_preset
from gfpet.errors import DataError
from gfpet.stages.report import report
from tests.report.tree import write_similarity, write_tree


def test_the_stage_writes_reports(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply_preset(None, ["tasks=[cb, copa]", "kinds=[lora]", "seeds=[0, 1]"], project / "params.yaml")
    write_tree(project)
    write_similarity(project)
    stale = project / "reports/accuracy_memory-t5.png"
    stale.parent.mkdir()
    stale.write_text("of a family that is no longer configured")
    report()
    assert not stale.exists()
    assert "| plugged L, lora | 55.0 ± 7.1" in (project / "reports/tables.md").read_text()
    metrics = json.loads((project / "metrics/report.json").read_text())
    assert metrics["values"]["rows"] == 20
    assert "plugged L, lora" in capsys.readouterr().err


def test_the_stage_fails_where_there_is_nothing(project: Path) -> None:
    with pytest.raises(DataError, match="nothing to report"):
        report()
    assert not (project / "reports").exists()
