"""The command line. Commands import heavy packages only when they run, so that `gfpet --help` answers at once."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from flows import cli_team
from flows.cli_errors import errors_as_text, quiet_services
from flows.cli_memory import memory
from gfpet.errors import ConfigError
from tasks.workspace import find_root, one_run

app = typer.Typer(
    name="gfpet",
    help="Adapt a large language model to a task without ever computing a gradient of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(memory)
app.add_typer(cli_team.services)
app.add_typer(cli_team.schedule)
app.command()(cli_team.worker)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-S", metavar="KEY=VALUE", help="Change one key, as in bridge.epochs=8.")
]

On = Annotated[
    str, typer.Option(metavar="here|pool:NAME|dask:N|dask:ADDRESS", help="Where stages run; see docs/team.md.")
]


@app.command()
def run(
    preset: Annotated[str | None, typer.Option(help="Apply presets/NAME.yaml to params.yaml first.")] = None,
    overrides: Overrides = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Only this stage and what it needs; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Stages side by side.")] = 2,
    pull: Annotated[bool, typer.Option(help="Take results that others have pushed from the DVC remote.")] = False,
    push: Annotated[bool, typer.Option(help="Push the results to the DVC remote.")] = False,
    allow_dirty: Annotated[
        bool, typer.Option(help="Push though files differ from the commit; the runs' tags say so.")
    ] = False,
    on: On = "here",
) -> None:
    """Run the stages that have changed and those that depend on them, then print the result table."""
    with errors_as_text():
        root = find_root(Path.cwd())
        quiet_services()
        from flows.logs import without_tracebacks

        with one_run(root), without_tracebacks():
            if preset or overrides:
                _apply(root, preset, overrides)
            with _shared_imports(root, on):
                results = _runner(on, workers, allow_dirty, pull, push)(root=root, targets=target or [])
        _say_outcome([result.outcome for result in results.values()])
        if (root / "reports" / "results.json").is_file():
            _print_table(root)


@app.command()
def bench(
    seeds: Annotated[int, typer.Option(min=1, help="How many, from 0 on; two or more give intervals.")] = 3,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option(min=1, help="Stages side by side.")] = 2,
    on: On = "here",
) -> None:
    """Run preset `embedded` over seeds; print gap closed, whether the benchmark can discriminate, and minutes."""
    with errors_as_text():
        root = find_root(Path.cwd())
        quiet_services()
        from flows.logs import without_tracebacks

        with one_run(root), without_tracebacks():
            _apply(root, "embedded", [f"seeds={list(range(seeds))}", *(overrides or ())])
            with _shared_imports(root, on):
                results = _runner(on, workers, False, False, False)(root=root, targets=["report"])
        _say_outcome([result.outcome for result in results.values()])
        typer.echo((root / "reports" / "benchmark.md").read_text(encoding="utf-8"))


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Ids of MLflow runs, or how they begin.")],
    every: Annotated[bool, typer.Option("--all", help="Equal parameters and metrics, too.")] = False,
) -> None:
    """Show runs side by side: the parameters that differ, and the metrics."""
    with errors_as_text():
        from rich.console import Console

        from flows.table import comparison_tables
        from gfpet.tracking import compare_runs

        for each in comparison_tables(compare_runs(find_root(Path.cwd()), runs), every):
            Console().print(each)


@app.command()
def publish() -> None:
    """Log all results that MLflow lacks: from the cache, from a remote, or from a time when it was down."""
    with errors_as_text():
        from gfpet.tracking import publish_all, shown_uri

        root = find_root(Path.cwd())
        outcomes = publish_all(root)
        for stage, outcome in outcomes.items():
            typer.echo(f"{outcome:>10}  {stage}")
        typer.echo(f"{len(outcomes)} results; MLflow at {shown_uri(root)}")
        if "down" in outcomes.values():
            raise typer.Exit(1)


@app.command()
def preset(
    name: Annotated[str | None, typer.Argument(help="A file of presets/, without .yaml.")] = None,
    overrides: Overrides = None,
) -> None:
    """Write a preset, and single keys, to params.yaml, and print what changed. Without a name, list the presets."""
    with errors_as_text():
        root = find_root(Path.cwd())
        if name is None and not overrides:
            from gfpet.config import preset_names

            typer.echo("\n".join(preset_names(root / "params.yaml")))
            return
        _apply(root, name, overrides)


@app.command()
def check() -> None:
    """Check params.yaml, and report all errors at once."""
    with errors_as_text():
        from gfpet.config import load_params

        root = find_root(Path.cwd())
        params = load_params(root / "params.yaml")
        typer.echo(
            f"{root / 'params.yaml'} is fine: preset {params.preset}, families {', '.join(params.families)}, "
            f"tasks {', '.join(params.tasks)}, kinds {', '.join(params.kinds)}, "
            f"seeds {', '.join(map(str, params.seeds))}"
        )


@app.command()
def table() -> None:
    """Print the result table of reports/."""
    with errors_as_text():
        _print_table(find_root(Path.cwd()))


@app.command()
def ui(port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000) -> None:
    """Serve MLflow's pages with the project's runs, until Ctrl-C."""
    with errors_as_text():
        from gfpet.tracking import shown_uri, tracking_uri

        root = find_root(Path.cwd())
        uri, shown = tracking_uri(root), shown_uri(root)
        if uri.startswith(("http:", "https:")):
            typer.echo(f"MLflow is served already: {shown}")
            return
        quiet_services()
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--artifacts-destination", str(root / "mlartifacts")]
        typer.echo(f"http://127.0.0.1:{port} shows {shown}; Ctrl-C ends it")
        sys.stdout.flush()
        # Replace this process, so that ending the command ends the server, too.
        # The address may contain a password, so pass it by environment: all users of a machine see command lines.
        os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
        os.chdir(root)
        os.execv(sys.executable, command)


def _apply(root: Path, name: str | None, overrides: list[str] | None) -> None:
    from gfpet.config import apply_preset

    changes = apply_preset(name, overrides or (), root / "params.yaml")
    for key, old, new in changes:
        typer.echo(f"params.yaml: {key}: {old} -> {new}")
    if not changes:
        typer.echo("params.yaml: nothing to change")


def _shared_imports(root: Path, on: str) -> AbstractContextManager[None]:
    """A stage server for a run on this machine, except with a GPU: a forked process may be unable to use it, and
    imports are then a small part of a stage.
    """
    from gfpet.config import load_params
    from tasks.devices import gpu_limit
    from tasks.stage_server import stage_server

    here = on == "here" and gpu_limit(load_params(root / "params.yaml").models.device) is None
    return stage_server(root) if here else nullcontext()


def _runner(on: str, workers: int, allow_dirty: bool, pull: bool, push: bool) -> Any:
    """The flow for an `--on` option; it still takes `root` and `targets`.

    Raises:
        ConfigError: `on` is not allowed.
    """
    from functools import partial

    from prefect.task_runners import ThreadPoolTaskRunner

    where, _, which = on.partition(":")
    if on == "here":
        from flows.reproduce import reproduce

        threads: Any = ThreadPoolTaskRunner(max_workers=workers)
        here = reproduce.with_options(task_runner=threads)
        return partial(here, pull=pull, push=push, allow_dirty=allow_dirty)
    if where not in ("pool", "dask") or not which:
        raise ConfigError(f"--on {on}: allowed are here, pool:NAME, dask:N (workers on this machine), dask:ADDRESS.")
    from flows.distributed import run_distributed

    if where == "pool":
        return partial(run_distributed, pool=which, allow_dirty=allow_dirty)
    from flows.dask_cluster import dask_runner

    return partial(run_distributed.with_options(task_runner=dask_runner(which)), allow_dirty=allow_dirty)


def _say_outcome(outcomes: list[str]) -> None:
    if not outcomes:
        typer.echo("everything is up to date: no stage had to run")
        return
    counts = {outcome: outcomes.count(outcome) for outcome in ("ran", "cached", "unchanged")}
    typer.echo("stages: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count))


def _print_table(root: Path) -> None:
    from rich.console import Console

    from flows.table import result_tables
    from gfpet.tracking import shown_uri

    console = Console()
    for each in result_tables(root):
        console.print(each)
    typer.echo(f"report: {root / 'reports' / 'tables.md'}, with plots, results.csv and results.json beside it")
    typer.echo(f"runs:   gfpet ui (MLflow at {shown_uri(root)})")
