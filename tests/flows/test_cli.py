from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from flows.cli import app
from tests.flows.conftest import ran


def write_results(root: Path) -> None:
    """Results of two methods on one task, as written by stage `report`."""
    from gfpet.report import ReportRow, write_rows

    def row(method: str, kind: str, seed: int | None, value: float) -> ReportRow:
        return ReportRow(
            family="gpt2",
            small="s",
            large="l",
            task="cb",
            kind=kind,
            method=method,
            strategy="",
            seed=seed,
            metric="score",
            value=value,
            ci_low=None,
            ci_high=None,
            n=56,
            gap_closed=None,
            peak_memory_bytes=None,
            seconds=None,
            adapt_seconds=None,
        )

    (root / "reports").mkdir()
    write_rows(root / "reports", [row("plugged", "lora", 0, 0.5), row("zero_shot", "", None, 0.25)])


def gfpet(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom flows.cli import app\n"
        "heavy = {'torch', 'transformers', 'mlflow', 'prefect', 'pandas', 'datasets', 'dvc'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = gfpet("--help")
    assert result.exit_code == 0
    for command in ("run", "bench", "publish", "preset", "check", "table", "ui"):
        assert command in result.output


def test_check_tells_every_problem_without_a_traceback(tiny: Path) -> None:
    assert gfpet("check").exit_code == 0
    params = yaml.safe_load((tiny / "params.yaml").read_text())
    params["tasks"], params["bridge"]["epochs"] = ["bolq"], -1
    (tiny / "params.yaml").write_text(yaml.safe_dump(params))
    result = gfpet("check")
    assert result.exit_code == 1
    assert "did you mean 'boolq'?" in result.output
    assert "bridge.epochs: got -1" in result.output
    assert "Traceback" not in result.output


def test_preset_says_what_changed(tiny: Path) -> None:
    assert gfpet("preset").output.split() == sorted(path.stem for path in (tiny / "presets").glob("*.yaml"))
    before = yaml.safe_load((tiny / "params.yaml").read_text())["bridge"]["epochs"]
    result = gfpet("preset", "embedded", "-S", "bridge.epochs=8")
    assert result.exit_code == 0
    assert f"params.yaml: bridge.epochs: {before} -> 8" in result.output
    assert "params.yaml: preset: quick -> embedded" in result.output
    assert gfpet("preset", "-S", "bridge.epochs=8").output == "params.yaml: nothing to change\n"
    result = gfpet("preset", "embeded")
    assert result.exit_code == 1
    assert "did you mean 'embedded'?" in result.output


def test_table_shows_scores_and_where_to_look(tiny: Path) -> None:
    result = gfpet("table")
    assert result.exit_code == 1
    assert "gfpet run" in result.output
    write_results(tiny)
    result = gfpet("table")
    assert result.exit_code == 0
    lines = [line.replace("│", " ").split() for line in result.output.splitlines()]
    assert any("50.0" in line for line in lines), result.output
    assert any("25.0" in line for line in lines), result.output
    assert "gfpet ui" in result.output


def test_outside_of_a_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = gfpet("check")
    assert result.exit_code == 1
    assert "no dvc.yaml" in result.output


@pytest.mark.integration
@pytest.mark.usefixtures("prefect_server", "mlflow_store")
def test_run_applies_overrides_and_ends_with_the_table(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_results(tiny)
    result = gfpet("run", "--target", "right", "--workers", "1", "-S", "seeds=[1]")
    assert result.exit_code == 0, result.output
    assert "params.yaml: seeds: [0] -> [1]" in result.output
    assert "stages: 2 ran" in result.output
    assert "50.0" in result.output
    assert ran(tiny) == ["first", "right"]
    assert "up to date" in gfpet("run", "--target", "right").output
    (tiny / "right.txt").write_text("break-right")
    result = gfpet("run", "--target", "right")
    assert result.exit_code == 1
    assert "error: stage 'right' failed" in result.output
    assert "Traceback" not in result.output
    assert "stage 'right' failed" in caplog.text
    assert "Traceback" not in caplog.text
    result = gfpet("publish")
    assert result.exit_code == 0
    assert "present  first" in result.output


@pytest.mark.integration
@pytest.mark.usefixtures("prefect_server", "mlflow_store")
def test_bench_takes_the_embedded_benchmark_over_seeds_and_ends_with_its_tables(tiny: Path) -> None:
    command = "mkdir -p reports && grep -A1 seeds params.yaml > reports/benchmark.md"
    stage = f"  report:\n    cmd: {command}\n    params: [families, tasks, seeds]\n    outs: [reports]\n"
    (tiny / "dvc.yaml").write_text((tiny / "dvc.yaml").read_text() + stage)
    result = gfpet("bench", "--seeds", "2", "-S", "families=[t5]", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert "params.yaml: preset: quick -> embedded" in result.output
    assert "stages: 1 ran" in result.output
    assert result.output.rstrip().endswith((tiny / "reports" / "benchmark.md").read_text().rstrip())
    assert "seeds: [0, 1]" in result.output
    params = yaml.safe_load((tiny / "params.yaml").read_text())
    assert (params["families"], len(params["tasks"]), params["seeds"]) == (["t5"], 8, [0, 1])
    assert ran(tiny) == []


@pytest.mark.usefixtures("prefect_server")
def test_push_without_a_remote_says_how_to_name_one(tiny: Path) -> None:
    result = gfpet("run", "--push")
    assert result.exit_code == 1
    assert "no default DVC remote (configured: none)" in result.output
    assert ran(tiny) == []


@pytest.mark.usefixtures("tiny")
def test_ui_leaves_a_server_that_runs_elsewhere_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = gfpet("ui")
    assert result.exit_code == 0
    assert result.output == "MLflow is served already: http://127.0.0.1:9\n"
