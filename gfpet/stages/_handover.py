"""The client of the stage server: asks it to run this program, and exits with the program's exit status.

It imports only the standard library: with a server, the stage's own process loads nothing else.

Protocol, on a Unix socket: the client sends the length of a JSON object `{module, arguments, folder, environment}` in
four bytes, with its standard output and error as file descriptors, and then the object. The server sends `ACCEPTED`
when the program has started, and its exit status in four bytes when it has ended (the negated number of a signal). If
the client disappears, the server ends its program.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

SERVER_ENV = "GFPET_STAGE_SERVER"
"""Path of the server's socket."""
ACCEPTED = b"A"
NUMBER = struct.Struct("!i")


def hand_over() -> None:
    """Run this program in the stage server, and exit with its exit status.

    Returns if this process is not a stage program, or if the server is gone or refuses because its files have changed.
    The program then runs in this process.
    """
    module = _program()
    address = os.environ.get(SERVER_ENV)
    if module is None or address is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(address)
            _ask(connection, module)
            accepted = connection.recv(1) == ACCEPTED
        except OSError:
            return
        if not accepted:
            return
        status = _status(connection)
    if status is None:
        print("error: the stage server ended before its stage; run it again.", file=sys.stderr, flush=True)
        sys.exit(1)
    if status < 0:
        with suppress(OSError):  # SIGKILL cannot have a handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(abs(status))


def receive(connection: socket.socket, count: int) -> bytes:
    """Receive exactly `count` bytes, or fewer if the other side has closed."""
    found = b""
    while len(found) < count and (more := connection.recv(count - len(found))):
        found += more
    return found


def _program() -> str | None:
    """The stage module that `python -m` is about to run; None in any other process."""
    # Python imports this package while it looks for the module; until then argv[0] is "-m".
    if not sys.argv or sys.argv[0] != "-m" or "-m" not in sys.orig_argv:
        return None
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    own = module.startswith("gfpet.stages.") and not module.startswith("gfpet.stages._")
    return module if own else None


def _ask(connection: socket.socket, module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != SERVER_ENV}
    about = {"module": module, "arguments": sys.argv[1:], "folder": str(Path.cwd()), "environment": environment}
    request = json.dumps(about).encode()
    socket.send_fds(connection, [NUMBER.pack(len(request))], [1, 2])
    connection.sendall(request)


def _status(connection: socket.socket) -> int | None:
    try:
        answer = receive(connection, NUMBER.size)
    except OSError:
        return None
    return NUMBER.unpack(answer)[0] if len(answer) == NUMBER.size else None
