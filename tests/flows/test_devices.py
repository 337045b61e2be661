from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tasks import devices
from tasks.devices import gpu_limit, gpu_slot


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `gpu_limit` find the device file of an NVIDIA driver."""
    file = tmp_path / "nvidiactl"
    monkeypatch.setattr(devices, "_DRIVER", file)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return file


def test_the_limit_is_named_after_the_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = socket.gethostname()
    assert gpu_limit("auto") is None
    assert gpu_limit("cuda:1") == f"gpu:{host}:1"
    driver.touch()
    assert gpu_limit("auto") == gpu_limit("cuda") == f"gpu:{host}:0"
    assert gpu_limit("cpu") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpu_limit("cuda:1") == f"gpu:{host}:5"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_limit("auto") is None


@pytest.mark.integration
@pytest.mark.usefixtures("prefect_server")
def test_two_never_hold_one_gpu() -> None:
    inside: list[int] = []
    most: list[int] = []

    def use() -> None:
        with gpu_slot("cuda:7"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.5)
            inside.pop()

    # This thread's context refers to the test's Prefect server.
    from contextvars import copy_context

    threads = [threading.Thread(target=copy_context().run, args=(use,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most == [1, 1]
