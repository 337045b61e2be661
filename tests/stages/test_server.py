"""The stage server: a program handed over to it behaves, and ends, as if it ran by itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gfpet.stages._handover import SERVER_ENV
from tasks.stage_server import OFF, stage_server
from tests.projects import ROOT
from tests.stages.test_pipeline import make_project, outputs_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stage server needs Linux")

PROGRAM = """\
import os, signal, subprocess, sys, time
from pathlib import Path

forked = "gfpet.stages._server" in sys.orig_argv
what, *more = sys.argv[1:]
if what == "say":
    print("out", forked, more, Path.cwd().name, os.environ.get("GREETING"), flush=True)
    print("err", os.environ.get("GFPET_STAGE_SERVER"), sys.stdin.read() == "", file=sys.stderr)
elif what == "exit":
    sys.exit(int(more[0]))
elif what == "raise":
    raise ValueError("broken")
elif what == "signal":
    os.kill(os.getpid(), int(more[0]))
elif what == "sleep":
    child = subprocess.Popen(["sleep", "60"])
    Path("pids").write_text(f"{os.getpid()} {child.pid} {os.getppid()}")
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """A folder with its own server, which has one program, `gfpet.stages.try_it`, and no heavy imports."""
    package = tmp_path / "gfpet" / "stages"
    package.mkdir(parents=True)
    (tmp_path / "gfpet" / "__init__.py").touch()
    for name in ("__init__", "_handover", "_server"):
        shutil.copy(ROOT / "gfpet" / "stages" / f"{name}.py", package)
    server = package / "_server.py"
    text = server.read_text()
    start = text.index("FURTHER = (")
    server.write_text(text[:start] + "FURTHER = ()" + text[text.index(")", start) + 1 :])
    (package / "try_it.py").write_text("if __name__ == '__main__':\n" + textwrap.indent(PROGRAM, "    "))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SERVER_ENV, raising=False)
        patch.setenv("PYTHONPATH", str(tmp_path))
        with stage_server(tmp_path):
            yield tmp_path


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "gfpet.stages.try_it", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def sleeping(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A sleeping program, with the process ids of itself, its child and the server."""
    process = start(folder, "sleep")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process, [int(number) for number in (folder / "pids").read_text().split()]


def gone(pid: int, within: float = 20) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # dead, and not yet waited for by its parent
            return True
        time.sleep(0.02)
    return False


def test_output_arguments_and_environment_are_those_of_the_client(served: Path) -> None:
    out, err = start(served, "say", "a b", "c", GREETING="hello").communicate()
    assert (out, err) == (f"out True ['a b', 'c'] {served.name} hello\n", "err None True\n")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("exit", "0"), 0), (("exit", "3"), 3), (("raise",), 1), (("signal", "9"), -9), (("signal", "15"), -15)],
)
def test_the_client_ends_as_the_program_does(served: Path, arguments: tuple[str, ...], status: int) -> None:
    process = start(served, *arguments)
    _, err = process.communicate()
    assert process.returncode == status
    assert ("ValueError: broken" in err) == (arguments == ("raise",))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_client_takes_its_program_along(served: Path, number: int) -> None:
    process, (program, child, _) = sleeping(served)
    os.killpg(process.pid, number)
    process.communicate()
    assert gone(program)
    assert gone(child)
    assert start(served, "say").communicate()[0].startswith("out True"), "the server goes on"


def test_a_killed_server_takes_its_programs_along_and_the_client_says_so(served: Path) -> None:
    process, (program, _, server) = sleeping(served)
    os.kill(server, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err == "error: the stage server ended before its stage; run it again.\n"
    assert gone(program)
    assert start(served, "say").communicate()[0].startswith("out False"), "without a server a program runs by itself"


def test_edited_code_is_not_run_by_the_server(served: Path) -> None:
    assert start(served, "say").communicate()[0].startswith("out True")
    program = served / "gfpet" / "stages" / "try_it.py"
    program.write_text(program.read_text() + "    print('edited')\n")
    out, _ = start(served, "say").communicate()
    assert out.startswith("out False")
    assert out.endswith("edited\n")


def test_programs_run_side_by_side(served: Path) -> None:
    process, (_, _, server) = sleeping(served)
    assert start(served, "say").communicate()[0].startswith("out True")
    other, (_, _, same) = sleeping(served)
    assert same == server
    for each in (process, other):
        os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


def test_the_server_ends_with_its_owner(served: Path) -> None:
    process, (_, _, first) = sleeping(served)
    program = f"""
        import os, time
        from pathlib import Path
        from tasks.stage_server import stage_server
        with stage_server(Path({str(served)!r})):
            print(os.environ[{SERVER_ENV!r}], flush=True)
            time.sleep(60)
    """
    environment = {name: value for name, value in os.environ.items() if name != SERVER_ENV}
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(served)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    address = owner.stdout.readline().strip()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = start(served, "sleep", **{SERVER_ENV: address})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    program_of_other, _, other = (int(number) for number in (served / "pids").read_text().split())
    assert other != first
    owner.kill()
    owner.communicate(timeout=20)
    assert not gone(program_of_other, within=1), "a killed run leaves what it has begun, as without a server"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert gone(other)
    shutil.rmtree(Path(address).parent)


def test_it_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_ENV, OFF)
    with stage_server(tmp_path):
        assert SERVER_ENV not in os.environ
    assert os.environ[SERVER_ENV] == OFF


def test_no_server_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER_ENV, raising=False)
    before = children()
    with stage_server(tmp_path):
        assert len(children() - before) == 1
        address = Path(os.environ[SERVER_ENV])
    assert children() == before
    assert not address.parent.exists()


def children() -> set[int]:
    found = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {int(line.split()[0]) for line in found.stdout.splitlines() if line.split()[1] != "ps"}


@pytest.mark.slow
def test_a_stage_leaves_the_same_bytes_with_and_without_the_server(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(project, "kinds=[lora]", "tasks=[boolq]")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv(SERVER_ENV, raising=False)
    stages = (("prepare",), ("tune", "gpt2", "boolq"), ("readout", "gpt2", "boolq"))
    commands = [[sys.executable, "-m", f"gfpet.stages.{name}", *arguments] for name, *arguments in stages]
    for command in commands:
        subprocess.run(command, check=True)
    alone = outputs_of(project / "outputs")
    with stage_server(project):
        for command in commands:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            assert after.ru_utime - before.ru_utime < 1, "the client imports nothing heavy"
    assert outputs_of(project / "outputs") == alone
