"""Stage `report`: writes all results with their costs as rows, tables and plots to `reports/`.

Usage: python -m gfpet.stages.report
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gfpet.report import ESTIMATED, Scope, collect, result_table, with_intervals, write_report
from gfpet.stages._harness import main, stage


def report() -> None:
    """Read the outputs of all configured families and tasks, and write `reports/`."""
    with stage("report") as run:
        params = run.params
        # With empty `kinds` nothing is transferred from S, but the references still have kinds.
        kinds = params.kinds or tuple(method for method in params.reference.methods if method != "full")
        scope = Scope(params.families, params.tasks, kinds, params.seeds, params.evaluate.auto)
        section = params.report
        collected = with_intervals(
            collect(Path(), scope), Path(), confidence=section.confidence, resamples=section.resamples
        )
        for path in collected.missing:
            run.say(f"missing, so the report leaves it out: {path}")
        folder = Path("reports")
        _clear(folder)
        rows = write_report(collected, folder)
        run.log_value("rows", len(rows))
        run.log_artifact(folder)
        for family in scope.families:
            run.say(result_table(rows, scope, family).text())


def _clear(folder: Path) -> None:
    """Remove an earlier report, but keep the estimates of `gfpet memory`."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and path.name != ESTIMATED:
            shutil.rmtree(path)
        elif path.is_file() and not path.name.startswith(f"{ESTIMATED}."):
            path.unlink()


if __name__ == "__main__":
    main(report)
