"""A GPU is used by one stage at a time: a limit in Prefect with the machine's and the GPU's name, made on first use."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SLOTS_ENV = "GFPET_GPU_SLOTS"
"""Stages that may share one GPU, where somebody wants it on purpose."""

_DRIVER = Path("/dev/nvidiactl")


def gpu_limit(device: str) -> str | None:
    """Name of the limit that a stage with `models.device` needs; None where it computes on the CPU.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
    """
    # The driver's device file, not torch: importing it takes seconds, and a driver without a usable GPU costs no more
    # than stages that wait for each other.
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
    """Hold the GPU of `device` while the body runs; wait for it first. Nothing to hold on a CPU.

    The hold is a lease, which ends by itself when the process that has it is killed.
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
        # Another stage may make it at the same moment; theirs is as good.
        with suppress(ObjectAlreadyExists):
            client.upsert_global_concurrency_limit_by_name(name, slots)
