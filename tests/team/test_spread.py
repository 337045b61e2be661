"""One run over two machines, as clones with a home of their own: the same results as on one, each stage made once."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from gfpet.tracking.store import STAGE_KEY
from tasks.services.process import start, stop
from tests.team.conftest import require
from tests.team.project import PROJECT, STAGES, Team, change_input, dvc, gfpet, make_team, outputs, ran, refused

pytestmark = [pytest.mark.integration, pytest.mark.slow]

POOL = "stages"


@contextlib.contextmanager
def workers(folder: Path, pool: str, *names: str, cwd: Path | None = None) -> Iterator[None]:
    """Workers of a pool, each with a home of its own for clones, as on machines of their own."""
    folder.mkdir()
    for name in names:
        environment = {**os.environ, "GFPET_CLONES": str(folder / name), "PYTHONPATH": str(PROJECT)}
        environment |= {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(folder / f"prefect-{name}")}
        start(name, [sys.executable, "-m", "flows", "worker", pool, "--name", name], folder, environment, cwd)
    try:
        yield
    finally:
        for name in names:
            stop(name, folder)


def wait_for_workers(pool: str, count: int) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with get_client(sync_client=True) as client, contextlib.suppress(PrefectHTTPStatusError):
            if len(client.read_workers_for_work_pool(pool)) >= count:
                return
        time.sleep(0.5)
    pytest.fail(f"{count} workers of {pool} did not come")


@pytest.fixture
def alone(tmp_path: Path) -> tuple[Team, dict[str, str]]:
    """A team whose stages take long enough for two workers to share them, and what one machine makes of them."""
    team = make_team(tmp_path / "team", str(tmp_path / "shared"))
    one = team.clone("one")
    change_input(one, "slow-tune@cb slow-tune@rte")
    dvc(one, "repro")
    assert ran(one) == STAGES
    return team, outputs(one)


def made_in(home: Path) -> list[str]:
    return sorted(name for log in home.glob("*/*/log.txt") for name in log.read_text().split())


@pytest.mark.usefixtures("team_environment")
def test_two_workers_of_a_pool(alone: tuple[Team, dict[str, str]], tmp_path: Path) -> None:
    team, expected = alone
    root = team.clone("pool")
    homes = tmp_path / "homes"
    with workers(homes, POOL, "w1", "w2"):
        wait_for_workers(POOL, 2)
        assert "stages: 4 ran" in gfpet(root, "run", "--on", f"pool:{POOL}")
        assert outputs(root) == expected
        assert ran(root) == []
        shares = [made_in(homes / name) for name in ("w1", "w2")]
        assert sorted(shares[0] + shares[1]) == STAGES
        assert {name for share in shares for name in share if name.startswith("tune")} == {"tune@cb", "tune@rte"}
        assert all(any(name.startswith("tune") for name in share) for share in shares), shares
        # What has come back is complete: nothing is left to do, here or on the workers.
        assert "up to date" in gfpet(root, "run", "--on", f"pool:{POOL}")
        # A stage that fails there fails here, with what it said.
        change_input(root, "break-tune@cb")
        said = refused(root, "run", "--on", f"pool:{POOL}")
    assert "the input says that this stage breaks" in said
    assert "not run, since they need what failed: report." in said
    _no_doubles()


@pytest.mark.usefixtures("team_environment")
def test_two_workers_of_dask(alone: tuple[Team, dict[str, str]], tmp_path: Path) -> None:
    require("prefect_dask", "distributed")
    team, expected = alone
    root = team.clone("dask")
    assert "stages: 4 ran" in gfpet(root, "run", "--on", "dask:2")
    assert outputs(root) == expected
    assert ran(root) == []
    assert made_in(tmp_path / "clones") == STAGES
    # Both tune stages ran at the same time, so in two clones.
    assert len(list((tmp_path / "clones").glob("*/*/log.txt"))) == 2
    _no_doubles()


@pytest.mark.usefixtures("team_environment")
def test_a_pool_without_workers_is_told(tmp_path: Path) -> None:
    root = make_team(tmp_path / "team", str(tmp_path / "shared")).clone("one")
    said = refused(root, "run", "--on", "pool:nobody")
    assert "no work pool 'nobody'" in said
    assert "gfpet worker nobody" in said


def _no_doubles() -> None:
    client = MlflowClient()
    for experiment in client.search_experiments():
        keys = [run.data.tags.get(STAGE_KEY) for run in client.search_runs([experiment.experiment_id])]
        keys = [key for key in keys if key]
        assert len(keys) == len(set(keys))
