"""Starts the stage server (`gfpet.stages._server`), so that the stages of a run share their imports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gfpet.stages._handover import SERVER_ENV
from tasks.process import stage_environment

OFF = "off"
"""Value of `GFPET_STAGE_SERVER` that disables the server."""


@contextmanager
def stage_server(root: Path) -> Iterator[None]:
    """Start a server to which all stages started in the body hand themselves over.

    The server imports in the background; a stage that starts earlier waits for it. There is no server on systems other
    than Linux or with `GFPET_STAGE_SERVER=off`: then each stage does its own imports.

    Args:
        root: the project's root, where stages run.
    """
    if sys.platform != "linux" or SERVER_ENV in os.environ:
        before = os.environ.pop(SERVER_ENV, None) if os.environ.get(SERVER_ENV) == OFF else None
        try:
            yield
        finally:
            if before is not None:
                os.environ[SERVER_ENV] = before
        return
    with tempfile.TemporaryDirectory(prefix="gfpet-") as folder:
        address = str(Path(folder) / "stages")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(address)
            listener.listen()
            # A pipe as input: the server reads its end, and exits, when this process ends in any way.
            server = subprocess.Popen(
                [sys.executable, "-m", "gfpet.stages._server", str(listener.fileno())],
                cwd=root,
                env=stage_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        os.environ[SERVER_ENV] = address
        try:
            yield
        finally:
            del os.environ[SERVER_ENV]
            server.terminate()
            server.communicate()
