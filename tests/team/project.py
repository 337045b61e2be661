"""A small team project in Git: one origin, clones, a DVC remote, and fast stages."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from gfpet.tracking.store import STAGE_KEY

PROJECT = Path(__file__).parents[2]
CONFIG = "[core]\n    analytics = false\n    autostage = false\n    check_update = false\n"

# prepare ─► tune@cb, tune@rte ─► report. `log.txt`, which Git ignores, lists the stages executed in a clone.
PIPELINE = """\
stages:
  prepare:
    cmd: python program.py prepare
    params: [prepare]
    deps: [input.txt]
    outs: [outputs/prepare]
    metrics: [metrics/prepare.json]
  tune:
    matrix:
      task: [cb, rte]
    cmd: python program.py tune ${item.task}
    params: [tune]
    deps: [outputs/prepare]
    outs: ['outputs/tune/gpt2/${item.task}']
    metrics: ['metrics/tune/gpt2/${item.task}.json']
  report:
    cmd: python program.py report
    deps: [outputs/tune/gpt2/cb, outputs/tune/gpt2/rte]
    outs: [outputs/report]
"""

PROGRAM = """\
import json, os, signal, sys, time
from pathlib import Path

stage, task = sys.argv[1], (sys.argv[2:] or [None])[0]
name = f"{stage}@{task}" if task else stage
with open("log.txt", "a") as log:
    log.write(name + "\\n")
words = Path("input.txt").read_text().split()
work = Path(".work") / name
if f"hang-{name}" in words:
    # Goes on where a killed run was: the second time there is a checkpoint.
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "checkpoint").exists():
        (work / "checkpoint").write_text(str(os.getpid()))
        time.sleep(600)
if f"meet-{stage}" in words and "TEAM_MEETING" in os.environ:
    # Two that share the stages meet here; one that takes them in turn would wait in vain.
    meeting = Path(os.environ["TEAM_MEETING"])
    (meeting / name).touch()
    deadline = time.monotonic() + 300
    while len(list(meeting.iterdir())) < 2:
        if time.monotonic() > deadline:
            sys.exit("error: nobody else has come")
        time.sleep(0.05)
if f"break-{name}" in words:
    sys.exit("error: the input says that this stage breaks")
where = "gpt2/" + task if task else None
out = Path("outputs") / stage / (where or "")
out.mkdir(parents=True, exist_ok=True)
(out / "text.txt").write_text(f"{name} {words} {Path('params.yaml').read_text().count('epochs: 3')}\\n")
metrics = Path("metrics") / (f"{stage}/{where}.json" if where else f"{stage}.json")
if stage != "report":
    metrics.parent.mkdir(parents=True, exist_ok=True)
    values = {"resumed": float((work / "checkpoint").exists()), "words": float(len(words))}
    metrics.write_text(json.dumps({"seconds": 1.0, "memory": {}, "values": values}))
"""

STAGES = ["prepare", "report", "tune@cb", "tune@rte"]


def run(root: Path, *command: str, **environment: str) -> str:
    """Run a command that must succeed; return its output."""
    done = subprocess.run(
        command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def git(root: Path, *arguments: str) -> str:
    return run(root, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)


def dvc(root: Path, *arguments: str) -> str:
    return run(root, sys.executable, "-m", "dvc", *arguments, PATH=_path())


def gfpet(root: Path, *arguments: str, **environment: str) -> str:
    """Run `gfpet` in a subprocess; return its output."""
    return run(root, sys.executable, "-m", "flows", *arguments, PATH=_path(), PYTHONPATH=str(PROJECT), **environment)


def refused(root: Path, *arguments: str) -> str:
    """Run `gfpet` in a subprocess, where it must fail; return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def ask(root: Path, *arguments: str, fails: bool = False) -> str:
    """Run a `gfpet` command without a flow in this process; return its output.

    A subprocess would take longer to start than most commands to run. Flows would keep Prefect's event connection, also
    to the servers of other tests.
    """
    from flows.cli import app

    with contextlib.chdir(root):
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == int(fails), done.output
    assert "Traceback" not in done.output
    return done.output


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def ran(root: Path) -> list[str]:
    """The stages executed in a clone."""
    log = root / "log.txt"
    return sorted(log.read_text().split()) if log.exists() else []


@dataclass(frozen=True)
class Team:
    """An origin and its clones."""

    folder: Path

    def clone(self, name: str) -> Path:
        root = self.folder / name
        git(self.folder, "clone", "--quiet", str(self.folder / "origin.git"), name)
        return root


def make_team(folder: Path, remote: str, **options: str) -> Team:
    """Make the project with a DVC remote, in a bare repository.

    Args:
        folder: An empty folder.
        remote: Address of the DVC remote.
        options: Options of the remote, as for `dvc remote modify`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seed = folder / "seed"
    (seed / ".dvc").mkdir(parents=True)
    lines = [f"    url = {remote}", *(f"    {name} = {value}" for name, value in options.items())]
    config = CONFIG.replace("[core]\n", "[core]\n    remote = team\n")
    (seed / ".dvc" / "config").write_text(config + "['remote \"team\"']\n" + "\n".join(lines) + "\n")
    (seed / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (seed / ".gitignore").write_text("/.work/\n/outputs/\n/metrics/\n/log.txt\n/mlflow.db*\n/mlartifacts/\n")
    (seed / "dvc.yaml").write_text(PIPELINE)
    (seed / "program.py").write_text(PROGRAM)
    (seed / "input.txt").write_text("plain\n")
    shutil.copy(PROJECT / "params.yaml", seed)
    shutil.copy(PROJECT / "prefect.yaml", seed)
    shutil.copytree(PROJECT / "presets", seed / "presets")
    (seed / "flows").mkdir()
    shutil.copy(PROJECT / "flows" / "pipeline.py", seed / "flows")
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(seed, "init", "--quiet", "--initial-branch=main")
    git(seed, "add", "-A")
    git(seed, "commit", "--quiet", "-m", "start")
    git(seed, "push", "--quiet", str(folder / "origin.git"), "main")
    return Team(folder)


def outputs(root: Path) -> dict[str, str]:
    """Contents of outputs and metrics, by path."""
    files = [path for name in ("outputs", "metrics") for path in (root / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_text() for path in files}


def change_input(root: Path, text: str) -> str:
    """Commit and push another input; return the commit."""
    (root / "input.txt").write_text(text + "\n")
    git(root, "commit", "--quiet", "-am", text)
    git(root, "push", "--quiet", "origin", "HEAD:main")
    return git(root, "rev-parse", "HEAD").strip()


def lock(root: Path) -> dict[str, object]:
    """Entries of dvc.lock."""
    loaded: dict[str, object] = yaml.safe_load((root / "dvc.lock").read_text())["stages"]
    return loaded


def tracked_runs(*commits: str) -> list[Run]:
    """MLflow's runs of some commits, or of all, oldest first. Requires one run per result."""
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))
    keys = [run.data.tags[STAGE_KEY] for run in runs if STAGE_KEY in run.data.tags]
    assert len(keys) == len(set(keys))
    return [run for run in runs if not commits or run.data.tags.get("gfpet.git.commit") in commits]
