from __future__ import annotations

import os
import sys
import threading
import time
from contextvars import Context, copy_context
from pathlib import Path

import pytest

from tasks.process import Finished, StoppedError, no_process_left, stage_environment, stream

# Starts a child in the same process group, and writes both process ids.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def run(code: str, root: Path, lines: list[str]) -> Finished:
    return stream([sys.executable, "-c", code], root=root, environment=stage_environment(), on_line=lines.append)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_lines_of_both_streams_arrive_while_it_runs(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import sys; print('out'); print('', flush=True); print('err', file=sys.stderr); sys.exit(3)"
    finished = run(code, tmp_path, lines)
    assert sorted(lines) == ["err", "out"]
    assert finished.returncode == 3
    assert finished.stdout == ("out",)
    assert sorted(finished.last_lines) == ["err", "out"]


def test_of_a_progress_bar_only_some_states_are_handed_on(tmp_path: Path) -> None:
    lines: list[str] = []
    finished = run("for i in range(500): print(f'{i} of 500', end='\\r')\nprint('done')", tmp_path, lines)
    assert lines == ["0 of 500", "done"]
    assert finished.last_lines == ("done",)


def test_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    finished = run("for i in range(100): print(i)", tmp_path, [])
    assert finished.last_lines == tuple(str(i) for i in range(70, 100))


def test_an_error_in_the_reader_ends_the_whole_group(tmp_path: Path) -> None:
    seen: list[int] = []

    def fail(line: str) -> None:
        seen.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream([sys.executable, "-c", PARENT], root=tmp_path, environment=stage_environment(), on_line=fail)
    assert not is_running(seen[0])


def test_leaving_by_an_error_ends_what_other_threads_run_and_starts_nothing_more(tmp_path: Path) -> None:
    lines: list[str] = []
    ended: list[Finished] = []
    contexts: list[Context] = []

    def interrupted() -> None:
        with no_process_left():
            contexts.extend([copy_context(), copy_context()])
            work = lambda: ended.append(run(PARENT, tmp_path, lines))  # noqa: E731
            threads.append(threading.Thread(target=contexts[0].run, args=(work,)))
            threads[0].start()
            while not lines:
                time.sleep(0.02)
            raise KeyboardInterrupt

    threads: list[threading.Thread] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    threads[0].join(timeout=300)
    assert ended[0].returncode != 0
    assert not is_running(int(lines[0]))
    with pytest.raises(StoppedError):
        contexts[1].run(run, "print(1)", tmp_path, lines)
    assert run("print(1)", tmp_path, lines).returncode == 0


def test_this_interpreter_comes_first_on_the_path() -> None:
    environment = stage_environment({"A_B": "c"})
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert environment["A_B"] == "c"
