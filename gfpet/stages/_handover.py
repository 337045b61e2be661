"""The client of the stage server: asks it to run this program, passes its output on, and ends with its exit status.

Only the standard library is imported here: this is all that a stage's own process loads where a server runs.

Protocol, on a Unix socket: the client sends the length of a JSON object `{module, arguments, folder, environment}` in
four bytes, with its standard output and error as file descriptors, and then the object. The server answers `ACCEPTED`
when the program has started, and its exit status in four bytes when it has ended (a signal's number negated). A client
that goes away ends its program.
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
    """End this process with the exit status of the same program in the stage server.

    Returns where this process is no stage program, and where the server does not take it: it is gone, or its code is
    not that of the files any more. The program then runs here.
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
        with suppress(OSError):  # SIGKILL has no other handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(abs(status))


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; fewer if the other side has gone."""
    found = b""
    while len(found) < count and (more := connection.recv(count - len(found))):
        found += more
    return found


def _program() -> str | None:
    """The module that `python -m` is about to run; None in any other process."""
    # Python sets argv[0] to "-m" while it looks for the module, which is when it imports this package.
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
