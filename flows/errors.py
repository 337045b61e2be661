"""Errors as the command line shows them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from gfpet.errors import GfpetError


@contextmanager
def errors_as_text() -> Iterator[None]:
    """An error that is meant for the user ends the command with its text alone, and exit code 1."""
    try:
        yield
    except GfpetError as error:
        typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
