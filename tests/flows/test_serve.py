"""prefect.yaml against the flow that it runs, and against this project's rules for schedules."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.client.schemas.schedules import CronSchedule

from flows.pipeline import params_at, pipeline
from flows.serve import deployments
from gfpet.config import apply_preset
from gfpet.errors import ConfigError
from tasks.git import head
from tasks.schedules import POOL, TAG
from tests.flows.test_clone import git

ROOT = Path(__file__).parents[2]
ENTRIES: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_each_deployment_says_when_where_and_one_at_a_time(entry: dict[str, Any]) -> None:
    file, _, name = entry["entrypoint"].partition(":")
    assert (ROOT / file).is_file()
    assert name == pipeline.fn.__name__
    assert entry["work_pool"] == {"name": POOL}
    assert TAG in entry["tags"]
    assert entry["concurrency_limit"]["limit"] == 1
    assert set(entry["parameters"]) <= set(inspect.signature(pipeline.fn).parameters)
    for schedule in entry["schedules"]:
        assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["name"])
def test_each_preset_exists(entry: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    apply_preset(entry["parameters"].get("preset"), entry["parameters"].get("overrides", []), tmp_path / "params.yaml")


def test_serving_gives_the_same_deployments() -> None:
    made = {each.name: each for each in deployments(ROOT)}
    assert list(made) == [entry["name"] for entry in ENTRIES]
    (schedule,) = made["nightly"].schedules or []
    assert isinstance(schedule.schedule, CronSchedule)
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 2 * * *", "Etc/UTC")
    assert made["nightly"].concurrency_options is not None
    assert made["nightly"].concurrency_options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW
    assert made["weekly-study"].parameters == {"preset": "embedded"}


def test_parameters_come_from_the_commit_and_are_checked(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "small.yaml").write_text("prune: {factor: 2.0}\n")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "--quiet", "-m", "start")
    committed = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text("not: this\n")
    assert params_at(tmp_path, head(tmp_path), None, []) == committed
    chosen = yaml.safe_load(params_at(tmp_path, head(tmp_path), "small", ["tune.epochs=3"]))
    assert (chosen["prune"]["factor"], chosen["tune"]["epochs"]) == (2.0, 3)
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        params_at(tmp_path, head(tmp_path), "smal", [])
    assert (tmp_path / "params.yaml").read_text() == "not: this\n"
