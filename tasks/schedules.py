"""Deployments on the Prefect server: reads and changes schedules, starts runs, and detects dead or failed runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast, get_args

from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from gfpet.errors import ConfigError, unknown

TAG = "gfpet"
"""Tag of our deployments and their runs."""

POOL = "gfpet"
"""Work pool of scheduled runs, as in prefect.yaml."""

SILENT_SECONDS = 90
"""A run without a heartbeat for so long counts as dead: three times Prefect's shortest heartbeat interval."""

START_SECONDS = 300
"""Time limit between submission by a worker and the start of the run, which includes all imports."""

Overlap = Literal["wait", "skip"]
_STRATEGY = {"wait": ConcurrencyLimitStrategy.ENQUEUE, "skip": ConcurrencyLimitStrategy.CANCEL_NEW}
_ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "TimedOut", "Paused", "Suspended")
_WRONG = ("Failed", "Crashed", "TimedOut", "Late")
_WATCH = "gfpet: runs that died"
_WATCH_START = "gfpet: runs that never started"
_NOTIFY = "gfpet: tell about late and failed runs"


@dataclass(frozen=True)
class Scheduled:
    """A deployment as shown by `gfpet schedule`."""

    name: str
    cron: str
    timezone: str
    active: bool
    overlap: str
    next_run: datetime | None
    last_runs: tuple[str, ...]
    """States of the latest runs, newest first."""


def read_schedules(runs: int = 5) -> list[Scheduled]:
    """The project's deployments on the server."""
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    rows = []
    with get_client(sync_client=True) as client:
        deployments = client.read_deployments(
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])), limit=100
        )
        for deployment in sorted(deployments, key=lambda each: each.name):
            only = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
            past = client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate({"state": {"name": {"not_any_": ["Scheduled"]}}}),
                deployment_filter=only,
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=runs,
            )
            coming = client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate({"state": {"name": {"any_": ["Scheduled"]}}}),
                deployment_filter=only,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=1,
            )
            first = deployment.schedules[0] if deployment.schedules else None
            schedule = first.schedule if first else None
            options: Any = deployment.concurrency_options
            strategy = options.collision_strategy if options else None
            rows.append(
                Scheduled(
                    deployment.name,
                    schedule.cron if isinstance(schedule, CronSchedule) else "",
                    (schedule.timezone or "UTC") if isinstance(schedule, CronSchedule) else "",
                    bool(first and first.active) and not deployment.paused,
                    next((name for name, each in _STRATEGY.items() if each == strategy), ""),
                    coming[0].expected_start_time if coming else None,
                    tuple(str(run.state_name) for run in past),
                )
            )
    return rows


def change_schedule(
    name: str,
    cron: str | None = None,
    timezone: str | None = None,
    active: bool | None = None,
    overlap: Overlap | None = None,
) -> None:
    """Change a deployment on the server. None leaves a setting unchanged.

    Raises:
        ConfigError: no such deployment, or a value that is not allowed; then nothing is changed.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate

    with get_client(sync_client=True) as client:
        deployment = _find(client, name)
        first = deployment.schedules[0] if deployment.schedules else None
        if cron or timezone or active is not None:
            old = first.schedule if first and isinstance(first.schedule, CronSchedule) else None
            if not cron and old is None:
                raise ConfigError(f"deployment '{name}' has no schedule yet; give one: --cron '0 2 * * *'.")
            schedule = _cron(cron or (old.cron if old else ""), timezone or (old.timezone if old else "Etc/UTC"))
            enabled = active if active is not None else (first.active if first else True)
            if first:
                client.update_deployment_schedule(deployment.id, first.id, active=enabled, schedule=schedule)
            else:
                client.create_deployment_schedules(
                    deployment.id, [DeploymentScheduleCreate(schedule=schedule, active=enabled)]
                )
        if overlap is not None:
            config = ConcurrencyLimitConfig(limit=1, collision_strategy=_STRATEGY[overlap])
            client.update_deployment(
                deployment.id,
                DeploymentUpdate(
                    concurrency_limit=1, concurrency_options={"collision_strategy": config.collision_strategy}
                ),
            )


def overlap_of(text: str | None) -> Overlap | None:
    """Check that a text is `wait`, `skip` or None.

    Raises:
        ConfigError: it is not.
    """
    if text is None:
        return None
    for allowed in get_args(Overlap):
        if text == allowed:
            return cast(Overlap, allowed)
    raise ConfigError(unknown("overlap", text, _STRATEGY))


def start_run(name: str, parameters: dict[str, Any]) -> str:
    """Start a run of a deployment now, and return the run's name.

    Raises:
        ConfigError: no such deployment, or parameters that it does not accept.
    """
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        deployment = _find(client, name)
        try:
            run = client.create_flow_run_from_deployment(
                deployment.id, parameters={**deployment.parameters, **parameters}
            )
        except PrefectHTTPStatusError as error:
            raise ConfigError(f"'{name}' does not take these parameters: {error.response.text[:500]}") from None
        return str(run.name)


def watch_dead_runs() -> None:
    """Let the server mark dead runs as crashed, so that they don't hold their slot in the pool for ever.

    A run is dead without a heartbeat for `SILENT_SECONDS`, or if it has not started `START_SECONDS` after submission.
    """
    alive, states = "prefect.flow-run.heartbeat", "prefect.flow-run."
    silent = f"It has not said for {SILENT_SECONDS} s that it lives: its process or machine is gone."
    ended = {states + state for state in _ENDED}
    _crash_after(_WATCH, {alive}, {alive, *ended}, SILENT_SECONDS, silent)
    never = f"A worker took it {START_SECONDS} s ago, and it has not started: the worker is gone."
    started = {states + state for state in ("Running", "Scheduled", "AwaitingConcurrencySlot", "AwaitingRetry")}
    taken = {states + state for state in ("Pending", "Submitting")}
    _crash_after(_WATCH_START, taken, {*started, *ended}, START_SECONDS, never)


def _crash_after(name: str, after: set[str], expect: set[str], seconds: int, message: str) -> None:
    trigger = EventTrigger(
        after=after,
        expect=expect,
        match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )
    _make(name, trigger, [ChangeFlowRunState(state=StateType.CRASHED, message=message)])


def notify(url: str) -> None:
    """Let the server call a webhook when one of our runs is late, fails or crashes. It stores the address encrypted."""
    from prefect.blocks.webhook import Webhook

    block: Any = Webhook(url=url).save("gfpet", overwrite=True)
    trigger = EventTrigger(
        expect={f"prefect.flow-run.{state}" for state in _WRONG},
        match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification.model_validate(
            {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}
        ),
        for_each={"prefect.resource.id", "prefect.state-name"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    text = '{"text": "gfpet: {{ flow_run.name }} is {{ flow_run.state.name }}", "flow_run": "{{ flow_run.id }}"}'
    _make(_NOTIFY, trigger, [CallWebhook(block_document_id=block, payload=text)])


def _make(name: str, trigger: EventTrigger, actions: Sequence[Any]) -> None:
    with get_client(sync_client=True) as client:
        known = client.read_automations_by_name(name)
        wanted = AutomationCore(name=name, trigger=trigger, actions=list(actions))
        if known:
            client.update_automation(known[0].id, wanted)
        else:
            client.create_automation(wanted)


def _find(client: Any, name: str) -> Any:
    try:
        return client.read_deployment_by_name(f"pipeline/{name}")
    except ObjectNotFound:
        names = [row.name for row in read_schedules()]
        if not names:
            raise ConfigError(
                "the Prefect server has no deployments of gfpet; make them: gfpet schedule apply."
            ) from None
        raise ConfigError(unknown("deployment", name, names)) from None


def _cron(cron: str, timezone: str | None) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        problems = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors())
        raise ConfigError(
            f"schedule '{cron}' in time zone '{timezone}' cannot be: {problems}. "
            "Five fields (minute hour day month weekday), and a name as Europe/Berlin or Etc/UTC."
        ) from None
