from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DVC_CONFIG = "[core]\n    no_scm = true\n    analytics = false\n    autostage = false\n    check_update = false\n"

# first ─┬─ left ──┬─ last       `left` is a matrix of one; `log.txt` lists the stages that DVC executed.
#        └─ right ─┘
PIPELINE = """
stages:
  old:
    frozen: true
    cmd: "false"
    outs:
      - old.txt:
          cache: false
  first:
    cmd: {python} work.py first
    deps: [a.txt, old.txt]
    outs: [outputs/first]
    metrics: [metrics/first.json]
  left:
    matrix:
      name: [x]
    cmd: {python} work.py left
    deps: [left.txt, outputs/first]
    outs: ["outputs/left/${{item.name}}"]
  right:
    cmd: {python} work.py right
    deps: [right.txt, outputs/first]
    outs: [outputs/right]
  last:
    cmd: {python} work.py last
    deps: [outputs/left, outputs/right]
    outs: [outputs/last]
"""

WORK = """
import json, os, sys, time
from pathlib import Path

name = sys.argv[1]
print(f"hello from {name}")
inputs = [Path(f"{name}.txt"), Path("a.txt")]
words = " ".join(path.read_text() for path in inputs if path.exists()).split()
with open("log.txt", "a") as log:
    log.write(name + "\\n")
if f"break-{name}" in words:
    sys.exit("error: the input says that this stage breaks")
if f"busy-{name}" in words and Path("log.txt").read_text().split().count(name) == 1:
    sys.exit("requests.exceptions.ConnectionError: nobody is there")
if f"sleep-{name}" in words:
    Path("pid.txt").write_text(str(os.getpid()))
    time.sleep(60)
out = Path("outputs") / ("left/x" if name == "left" else name)
out.mkdir(parents=True, exist_ok=True)
(out / "text.txt").write_text(name + " " + " ".join(words))
if name == "first":
    Path("metrics").mkdir(exist_ok=True)
    metrics = {"seconds": 1.0, "memory": {}, "values": {"words": len(words)}}
    Path("metrics/first.json").write_text(json.dumps(metrics))
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository of four small stages and a frozen one, with the project's own params.yaml and presets."""
    root = tmp_path / "tiny"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc" / "config").write_text(DVC_CONFIG)
    (root / "dvc.yaml").write_text(textwrap.dedent(PIPELINE).format(python=sys.executable))
    (root / "work.py").write_text(WORK)
    for name in ("a", "left", "right"):
        (root / f"{name}.txt").write_text("plain")
    (root / "old.txt").write_text("made long ago")
    shutil.copy(PROJECT / "params.yaml", root)
    shutil.copytree(PROJECT / "presets", root / "presets")
    monkeypatch.chdir(root)
    return root


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One temporary Prefect server per session."""
    from prefect.logging.configuration import setup_logging
    from prefect.testing.utilities import prefect_test_harness

    # The first flow of a process calls this, which removes pytest's handlers from the root logger: call it before.
    setup_logging()
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="session")
def _mlflow_uri(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture
def mlflow_store(_mlflow_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """One MLflow store for all tests of a worker."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", _mlflow_uri)
    return _mlflow_uri


def ran(root: Path) -> list[str]:
    """The stages that DVC executed, in order."""
    log = root / "log.txt"
    return log.read_text().split() if log.exists() else []
