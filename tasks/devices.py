"""Limits each GPU to one stage at a time, with a Prefect concurrency limit named after machine and GPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SLOTS_ENV = "GFPET_GPU_SLOTS"
"""Environment variable with the number of stages that may share one GPU; 1 by default."""

_DRIVER = Path("/dev/nvidiactl")


def gpu_limit(device: str) -> str | None:
    """Name of the Prefect limit for a stage on `device`; None if it computes on the CPU.

    Args:
        device: `models.device`: `auto`, `cpu`, `cuda` or `cuda:1`.
    """
    # Look for the driver's device file, since importing torch takes seconds. If the GPU is unusable after all, stages
    # only wait for each other.
    if device == "cpu" or (device == "auto" and not _DRIVER.exists()):
        return None
    number = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return f"gpu:{socket.gethostname()}:{number}"
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return f"gpu:{socket.gethostname()}:{names[number]}" if number < len(names) else None


@contextmanager
def gpu_slot(device: str) -> Iterator[None]:
    """Wait for the GPU of `device` and reserve it while the body runs. Does nothing on a CPU.

    The reservation is a lease, which expires if the process is killed.
    """
    name = gpu_limit(device)
    if name is None:
        yield
        return
    from prefect.concurrency.sync import concurrency

    _make_limit(name)
    with concurrency(name, occupy=1, strict=True, raise_on_lease_renewal_failure=False):
        yield


def _make_limit(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    slots = int(os.environ.get(SLOTS_ENV, "1"))
    with get_client(sync_client=True) as client:
        try:
            known = client.read_global_concurrency_limit_by_name(name).limit
        except ObjectNotFound:
            known = None
        if known is not None and (SLOTS_ENV not in os.environ or known == slots):
            return
        # Another stage may create the same limit at the same moment.
        with suppress(ObjectAlreadyExists):
            client.upsert_global_concurrency_limit_by_name(name, slots)
