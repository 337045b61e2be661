"""Commands for teams: services, schedules, workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_errors import errors_as_text, quiet_services
from gfpet.errors import ConfigError
from tasks.workspace import find_root

services = typer.Typer(
    name="services",
    help="PostgreSQL, an S3-compatible store, MLflow and Prefect on 127.0.0.1, from packages, without containers.",
    no_args_is_help=True,
)
schedule = typer.Typer(name="schedule", help="What runs by itself: show it (without a command), and change it.")

Port = Annotated[int | None, typer.Option(help="On 127.0.0.1; by default the one of the last start.")]


def _stack(
    postgres: int | None = None, s3: int | None = None, mlflow: int | None = None, prefect: int | None = None
) -> Any:
    from dataclasses import replace

    from tasks.services import Stack

    folder = find_root(Path.cwd()) / ".services"
    stack = Stack(folder)
    given = {"postgres": postgres, "s3": s3, "mlflow": mlflow, "prefect": prefect}
    ports = replace(stack.ports, **{name: port for name, port in given.items() if port is not None})
    return Stack(folder, ports)


@services.command()
def start(
    postgres_port: Port = None, s3_port: Port = None, mlflow_port: Port = None, prefect_port: Port = None
) -> None:
    """Start the services that are not running, and wait until all answer."""
    with errors_as_text():
        stack = _stack(postgres_port, s3_port, mlflow_port, prefect_port)
        stack.start(typer.echo)
        typer.echo("all healthy. What uses them needs their addresses and passwords in its environment:")
        typer.echo(f"  . {stack.folder / 'env'}")
        typer.echo("The S3 store keeps its objects in memory: they are gone when it stops. MLflow's artifacts are not.")


@services.command()
def status() -> None:
    """Print the state of each service; exit code 1 unless all are healthy."""
    with errors_as_text():
        states = _stack().status()
        for name, state in states.items():
            typer.echo(f"{name:10} {state}")
        if set(states.values()) != {"healthy"}:
            raise typer.Exit(1)


@services.command()
def stop() -> None:
    """Stop all services. Runs, artifacts and passwords stay in .services/ (as root: runs in /var/lib/postgresql)."""
    with errors_as_text():
        stopped = _stack().stop()
        typer.echo(f"stopped: {', '.join(stopped) or 'nothing ran'}")


@schedule.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Show the deployments: schedule, time zone, next run, states of the last runs."""
    if context.invoked_subcommand is not None:
        return
    with errors_as_text():
        require_server()
        from rich.console import Console
        from rich.table import Table

        from tasks.schedules import read_schedules

        rows = read_schedules()
        if not rows:
            raise ConfigError("the Prefect server has no deployments of gfpet; make them: gfpet schedule apply.")
        table = Table()
        for column in ("deployment", "cron", "time zone", "active", "overlap", "next run (UTC)", "last runs"):
            table.add_column(column)
        for row in rows:
            coming = f"{row.next_run:%Y-%m-%d %H:%M}" if row.next_run else "-"
            active = ("yes" if row.active else "no") if row.cron else "-"
            runs = ", ".join(row.last_runs) or "-"
            table.add_row(row.name, row.cron or "on demand", row.timezone or "-", active, row.overlap, coming, runs)
        Console().print(table)


@schedule.command()
def apply(
    webhook: Annotated[
        bool, typer.Option(help="Tell about late, failed and crashed runs at the address in GFPET_WEBHOOK.")
    ] = False,
) -> None:
    """Register the deployments of prefect.yaml with the Prefect server, and create their work pool."""
    with errors_as_text():
        require_server()
        url = os.environ.get("GFPET_WEBHOOK")
        if webhook and not url:
            raise ConfigError("GFPET_WEBHOOK is not set; it holds the address to call (a secret, so not an argument).")
        from flows.worker import prepare_pool
        from tasks.schedules import POOL, notify

        root = find_root(Path.cwd())
        prepare_pool(POOL, limit=1)
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigError(f"`prefect deploy` failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
        if webhook and url:
            notify(url)
        typer.echo(f"applied prefect.yaml; a worker runs what is due: gfpet worker {POOL}")


@schedule.command(name="set")
def set_(
    name: Annotated[str, typer.Argument(help="A deployment: nightly, weekly-study, on-demand.")],
    cron: Annotated[str | None, typer.Option(help="Minute hour day month weekday.")] = None,
    timezone: Annotated[str | None, typer.Option(help="As Europe/Berlin or Etc/UTC.")] = None,
    active: Annotated[bool | None, typer.Option("--resume/--pause", help="Let it run by itself, or not.")] = None,
    overlap: Annotated[
        str | None, typer.Option(help="wait or skip: what becomes of a run while the one before still goes.")
    ] = None,
) -> None:
    """Change a deployment on the server; the next `apply` resets it."""
    with errors_as_text():
        require_server()
        from tasks.schedules import change_schedule, overlap_of

        if (cron, timezone, active, overlap) == (None, None, None, None):
            raise ConfigError("nothing to change; give --cron, --timezone, --pause, --resume or --overlap.")
        change_schedule(name, cron, timezone, active, overlap_of(overlap))
        typer.echo(f"changed {name}; to keep it, write it to prefect.yaml, too")


@schedule.command(name="run")
def run_(
    name: Annotated[str, typer.Argument(help="A deployment.")] = "on-demand",
    preset: Annotated[str | None, typer.Option(help="A file of presets/.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", "-S", metavar="KEY=VALUE")] = None,
    target: Annotated[list[str] | None, typer.Option(metavar="STAGE")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag.")] = None,
) -> None:
    """Check the parameters, and start a run of a deployment now, on any free worker."""
    with errors_as_text():
        require_server()
        from flows.pipeline import params_at
        from tasks.dvc_stage import read_graph
        from tasks.git import head
        from tasks.schedules import start_run

        root = find_root(Path.cwd())
        params_at(root, head(root, revision or "HEAD"), preset, overrides or [])
        if target:
            read_graph(root, target)
        given = {"preset": preset, "overrides": overrides, "targets": target, "revision": revision}
        typer.echo(f"started {start_run(name, {key: value for key, value in given.items() if value is not None})}")


def worker(
    pool: Annotated[str, typer.Argument(help="`gfpet`: scheduled runs. Any other: single stages, for run --on.")],
    name: Annotated[str | None, typer.Option(help="Shown in Prefect.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs or stages at a time.")] = 1,
) -> None:
    """Serve a Prefect work pool until Ctrl-C: scheduled runs of this project, or single stages of other runs."""
    with errors_as_text():
        require_server()
        from flows.worker import work

        work(pool, name, limit)


def require_server() -> None:
    """Check that a Prefect server is configured: otherwise Prefect would start a temporary one.

    Raises:
        ConfigError: `PREFECT_API_URL` is not set.
    """
    quiet_services()
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise ConfigError(
            "no Prefect server: PREFECT_API_URL is not set. Start one (make services) and take its address and "
            "password into the environment: . .services/env."
        )
