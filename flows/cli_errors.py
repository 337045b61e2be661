"""Shared by all commands: errors as text, and services without telemetry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from gfpet.errors import GfpetError
from gfpet.secrets import without_secrets


@contextmanager
def errors_as_text() -> Iterator[None]:
    """On a `GfpetError`, end the command with the error's text and exit code 1, without a traceback."""
    try:
        yield
    except GfpetError as error:
        typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
        typer.echo(without_secrets(str(error)), err=True)
        raise typer.Exit(1) from None


def quiet_services() -> None:
    """Disable telemetry of Prefect and MLflow, and MLflow's job workers, which are not needed here."""
    for name, value in (
        ("DO_NOT_TRACK", "true"),
        ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        # Retry HTTP 500: a busy server must not abort a long run.
        ("PREFECT_CLIENT_RETRY_EXTRA_CODES", "500"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
    ):
        os.environ.setdefault(name, value)
