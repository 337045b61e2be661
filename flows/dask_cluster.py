"""Dask as the task runner of `run_distributed`: workers on this machine, or an existing cluster."""

from __future__ import annotations

from typing import Any

from gfpet.errors import ConfigError


def dask_runner(which: str) -> Any:
    """A task runner for `which`: a number of workers on this machine, or the address of a scheduler.

    Each worker takes one stage at a time.

    Raises:
        ConfigError: Dask is not installed.
    """
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigError(
            "Dask is not installed; it comes with: pip install -c constraints.txt -e '.[dask]'."
        ) from None
    if not which.isdecimal():
        return DaskTaskRunner(address=which)
    return DaskTaskRunner(
        cluster_kwargs={
            "n_workers": int(which),
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            # Dask's dashboard on a free local port: the default one may be in use, and listens on every address.
            "dashboard_address": "127.0.0.1:0",
        }
    )
