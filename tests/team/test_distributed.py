"""One run over two machines (workers with separate homes): the same results as on one, and each stage runs once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.team.conftest import require
from tests.team.project import STAGES, change_input, dvc, gfpet, make_team, outputs, ran, refused, tracked_runs
from tests.team.workers import wait_for_workers, workers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

POOL = "stages"
INPUT = "meet-tune"
"""With this input and `TEAM_MEETING` set, each of the two `tune` stages waits until the other one runs, too."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The results of one machine."""
    folder = tmp_path_factory.mktemp("alone")
    one = make_team(folder / "team", str(folder / "shared")).clone("one")
    change_input(one, INPUT)
    dvc(one, "repro")
    assert ran(one) == STAGES
    return outputs(one)


@pytest.fixture
def meeting(tmp_path: Path) -> Path:
    folder = tmp_path / "meeting"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The clone that starts the distributed run."""
    clone = make_team(tmp_path / "team", str(tmp_path / "shared")).clone("one")
    change_input(clone, INPUT)
    return clone


def made_in(home: Path) -> list[str]:
    return sorted(name for log in home.glob("*/*/log.txt") for name in log.read_text().split())


@pytest.mark.usefixtures("team_environment")
def test_two_workers_of_a_pool(root: Path, expected: dict[str, str], meeting: Path, tmp_path: Path) -> None:
    homes = tmp_path / "homes"
    with workers(homes, POOL, "w1", "w2", TEAM_MEETING=str(meeting)):
        wait_for_workers(POOL, 2)
        assert "stages: 4 ran" in gfpet(root, "run", "--on", f"pool:{POOL}")
        assert outputs(root) == expected
        assert ran(root) == []
        shares = [made_in(homes / name) for name in ("w1", "w2")]
        assert sorted(shares[0] + shares[1]) == STAGES
        assert all(any(name.startswith("tune") for name in share) for share in shares), shares
        # The returned results are complete: nothing is left to do.
        assert "up to date" in gfpet(root, "run", "--on", f"pool:{POOL}")
        # A stage that fails on a worker fails here, with its output.
        change_input(root, "break-prepare")
        said = refused(root, "run", "--on", f"pool:{POOL}")
    assert "the input says that this stage breaks" in said
    assert "not run, since they need what failed: tune@cb, tune@rte, report." in said
    assert tracked_runs()


@pytest.mark.usefixtures("team_environment")
def test_two_workers_of_dask(root: Path, expected: dict[str, str], meeting: Path, tmp_path: Path) -> None:
    require("prefect_dask", "distributed")
    assert "stages: 4 ran" in gfpet(root, "run", "--on", "dask:2", TEAM_MEETING=str(meeting))
    assert outputs(root) == expected
    assert ran(root) == []
    assert made_in(tmp_path / "clones") == STAGES
    # Both tune stages ran at the same time, and therefore in two clones.
    assert len(list((tmp_path / "clones").glob("*/*/log.txt"))) == 2
    assert tracked_runs()


@pytest.mark.usefixtures("team_environment")
def test_a_pool_without_workers_is_told(tmp_path: Path) -> None:
    root = make_team(tmp_path / "team", str(tmp_path / "shared")).clone("one")
    said = refused(root, "run", "--on", "pool:nobody")
    assert "no work pool 'nobody'" in said
    assert "gfpet worker nobody" in said
