"""Shows the results in Prefect: the result table and the report's pages as artifacts of the flow run."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE


@task(cache_policy=NO_CACHE, persist_result=False)
def present_results(root: Path, links: dict[str, str]) -> list[str]:
    """Make artifacts from the files in `reports/`, and one with links.

    Args:
        root: Folder with `reports/`.
        links: Addresses or paths by title.

    Returns:
        Keys of the artifacts.
    """
    reports = root / "reports"
    keys = []
    results = reports / "results.csv"
    if results.is_file():
        with results.open(encoding="utf-8", newline="") as lines:
            create_table_artifact(table=list(csv.DictReader(lines)), key="results", description="All results")
        keys.append("results")
    for page in sorted(reports.glob("*.md")):
        key = "report-" + re.sub(r"[^a-z0-9]+", "-", page.stem.lower()).strip("-")
        create_markdown_artifact(page.read_text(encoding="utf-8"), key=key, description=f"reports/{page.name}")
        keys.append(key)
    lines_of_links = "\n".join(f"- {what}: {where}" for what, where in links.items())
    create_markdown_artifact(f"# Where to look\n\n{lines_of_links}\n", key="where-to-look")
    return [*keys, "where-to-look"]
