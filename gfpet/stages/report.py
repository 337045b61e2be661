"""Stage `report`: all results with their costs as rows, tables and plots in `reports/`.

Usage: python -m gfpet.stages.report
"""

from __future__ import annotations

import shutil
from pathlib import Path

from gfpet.report import ESTIMATED, Scope, collect, result_table, write_report
from gfpet.stages._harness import main, stage


def report() -> None:
    """Read what the stages of all configured families and tasks wrote, and write `reports/`."""
    with stage("report") as run:
        params = run.params
        # Where nothing is carried over from S, the references have kinds all the same.
        kinds = params.kinds or tuple(method for method in params.reference.methods if method != "full")
        scope = Scope(params.families, params.tasks, kinds, params.seeds, params.evaluate.auto)
        collected = collect(Path(), scope)
        for path in collected.missing:
            run.say(f"not there, so the report does without: {path}")
        folder = Path("reports")
        _clear(folder)
        rows = write_report(collected, folder)
        run.log_value("rows", len(rows))
        run.log_artifact(folder)
        for family in scope.families:
            run.say(result_table(rows, scope, family).text())


def _clear(folder: Path) -> None:
    """Figures of a family that is no longer configured go; what `gfpet memory` estimated stays."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.is_dir() and path.name != ESTIMATED:
            shutil.rmtree(path)
        elif path.is_file() and not path.name.startswith(f"{ESTIMATED}."):
            path.unlink()


if __name__ == "__main__":
    main(report)
