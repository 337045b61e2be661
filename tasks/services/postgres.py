"""PostgreSQL from the system's packages, with its own data folder; every connection needs a password."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from tasks.services.process import HOST, ServiceError, require_free, running, start, wait_healthy

USER = "gfpet"
DATABASES = ("mlflow", "mlflow_auth", "prefect")
_SYSTEM_USER = "postgres"
_SYSTEM_FOLDER = Path("/var/lib/postgresql")


def programs() -> Path:
    """Folder with the programs of the newest installed PostgreSQL.

    Raises:
        ServiceError: PostgreSQL is not installed.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name.partition(".")[0]))
    initdb = shutil.which("initdb")
    if initdb:
        return Path(initdb).resolve().parent
    raise ServiceError(
        "no PostgreSQL here (initdb is neither on PATH nor in /usr/lib/postgresql/*/bin); "
        "install it: apt-get install postgresql, or brew install postgresql."
    )


def uri(database: str, password: str, port: int, driver: str = "postgresql") -> str:
    """Address of one of our databases."""
    return f"{driver}://{USER}:{password}@{HOST}:{port}/{database}"


def start_postgres(folder: Path, password: str, port: int) -> None:
    """Start the server; create its data folder and databases if they are missing.

    Args:
        folder: Folder of log and process id. It also holds the data, unless this process runs as root: PostgreSQL then
            runs as another user, who may have no access to `folder`.
        password: Password of the role that owns the databases.
        port: Port on 127.0.0.1.

    Raises:
        ServiceError: PostgreSQL is not installed, or does not start.
    """
    binaries = programs()
    if running("postgres", folder) is not None:
        return
    require_free("postgres", port)
    data = data_folder(folder)
    if not (data / "PG_VERSION").is_file():
        _make_cluster(binaries, data, password)
    command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", HOST]
    # No socket file: it would need a short path, in a folder that both users can enter.
    command += ["-c", "unix_socket_directories=", "-c", "max_connections=200"]
    start("postgres", [*_as_user(), *command], folder, _environment(), cwd=Path("/"))
    wait_healthy("postgres", folder, lambda: is_ready(port))
    _make_databases(binaries, password, port)


def data_folder(folder: Path) -> Path:
    """Data folder of PostgreSQL for the services in `folder`."""
    if os.geteuid() != 0:
        return folder / "postgres"
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return _SYSTEM_FOLDER / f"gfpet-{name}"


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        raise ServiceError(
            f"PostgreSQL does not run as root, and there is no user '{_SYSTEM_USER}' to run it as; "
            "the system's package makes one: apt-get install postgresql."
        ) from None
    # Unlike su and runuser, setpriv adds no process, so that signals reach the server itself.
    return ["setpriv", f"--reuid={_SYSTEM_USER}", f"--regid={_SYSTEM_USER}", "--init-groups"]


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}


def _make_cluster(binaries: Path, data: Path, password: str) -> None:
    user = _as_user()
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        file = Path(temporary) / "password"
        file.touch(0o600)
        file.write_text(password, encoding="utf-8")
        if user:
            account = pwd.getpwnam(_SYSTEM_USER)
            for path in (Path(temporary), file):
                os.chown(path, account.pw_uid, account.pw_gid)
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chown(data, account.pw_uid, account.pw_gid)
        command = [str(binaries / "initdb"), "-D", str(data), "--username", USER, "--pwfile", str(file)]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions"]
        _run([*user, *command])


def _make_databases(binaries: Path, password: str, port: int) -> None:
    connection = ["-h", HOST, "-p", str(port), "-U", USER]
    psql = [str(binaries / "psql"), *connection, "-d", "postgres", "-At", "-c", "SELECT datname FROM pg_database"]
    present = _run(psql, PGPASSWORD=password).split()
    for database in DATABASES:
        if database not in present:
            _run([str(binaries / "createdb"), *connection, database], PGPASSWORD=password)


def is_ready(port: int) -> bool:
    """Whether the server accepts connections."""
    command = [str(programs() / "pg_isready"), "-q", "-h", HOST, "-p", str(port)]
    return subprocess.run(command, env=_environment(), check=False).returncode == 0


def _run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env=_environment() | environment, cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        program = next(Path(part).name for part in command if "/" in part)
        raise ServiceError(f"`{program}` failed (exit status {done.returncode}): {done.stderr.strip()}")
    return done.stdout
