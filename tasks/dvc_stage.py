"""Reads DVC's graph of stages, and runs single stages."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from gfpet.config import load_params
from gfpet.errors import ConfigError, unknown
from tasks.devices import gpu_slot
from tasks.process import DvcError, dvc_command, stage_environment, stream

Outcome = Literal["ran", "cached", "unchanged"]

# Transient errors: a lock held by another process, a network failure. All others would occur again on a retry.
_PASSING = re.compile(
    r"unable to acquire lock|lock is busy|is busy, it is being blocked"
    r"|ConnectionError|ConnectTimeout|ReadTimeout|NewConnectionError|Max retries exceeded"
    r"|Temporary failure in name resolution|RemoteDisconnected|IncompleteRead"
    r"|\b(?:429|500|502|503|504) (?:Client|Server) Error",
    re.IGNORECASE,
)
_DVCS_OWN = re.compile(r"ERROR: failed to reproduce|Running stage '|> |Stage '")
_SHOWN_LINES = 8


class StageError(DvcError):
    """A stage failed. The message has its last lines without DVC's own; `last_lines` has some more."""

    def __init__(self, name: str, returncode: int, last_lines: Collection[str]) -> None:
        telling = [line for line in last_lines if not _DVCS_OWN.match(line)][-_SHOWN_LINES:]
        super().__init__(
            "\n".join([f"stage '{name}' failed (exit status {returncode}):", *(f"    {line}" for line in telling)])
        )
        self.name = name
        self.returncode = returncode
        self.last_lines = tuple(last_lines)

    def __reduce__(self) -> tuple[type[StageError], tuple[str, int, tuple[str, ...]]]:
        return type(self), (self.name, self.returncode, self.last_lines)

    @property
    def may_pass(self) -> bool:
        """Whether the error is transient, so that a retry can help."""
        return bool(_PASSING.search("\n".join(self.last_lines)))


@dataclass(frozen=True)
class StageResult:
    """Outcome and duration of one stage."""

    name: str
    outcome: Outcome
    seconds: float


def read_graph(root: Path, targets: Collection[str] = ()) -> dict[str, tuple[str, ...]]:
    """The stages that `targets` need (without targets, all), each with its direct dependencies.

    A target is the name of a stage (`tune@gpt2-cb`) or of a matrix (`tune`). The order is topological, with stages on
    the longest path to the end first. Ties go to stages whose dependents have many dependencies. Frozen stages are left
    out, since DVC does not run them.

    Raises:
        ConfigError: a target is no stage, or DVC cannot read the graph.
    """
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            graph = repo.index.graph
            needs = {
                stage.name: tuple(sorted(need.name for need in graph.successors(stage) if not need.frozen))
                for stage in graph
                if not stage.frozen and hasattr(stage, "name")
            }
    except DvcException as error:
        raise ConfigError(f"DVC cannot read {root / 'dvc.yaml'}: {error}") from error
    order = networkx.DiGraph((need, name) for name, many in needs.items() for need in many)
    order.add_nodes_from(needs)
    wanted = set(needs)
    if targets:
        wanted = {name for target in targets for name in _matching(target, needs)}
        wanted |= {need for name in wanted for need in networkx.ancestors(order, name)}
    to_end: dict[str, int] = {}
    for name in reversed(list(networkx.topological_sort(order))):
        to_end[name] = 1 + max((to_end[after] for after in order.successors(name)), default=0)
    # A stage with many dependencies starts late in any case. If its dependencies also ran last, it would end up alone.
    awaited = {name: sum(len(needs[after]) for after in order.successors(name)) for name in needs}
    first_longest = networkx.lexicographical_topological_sort(
        order, key=lambda name: (-to_end[name], -awaited[name], -len(needs[name]), name)
    )
    return {name: needs[name] for name in first_longest if name in wanted}


def stale_stages(root: Path, names: Collection[str]) -> set[str]:
    """The stages among `names` that `dvc status` reports as changed. If there are none, nothing has to run.

    Further stages may have to run when their dependencies have new results.

    Raises:
        DvcError: `dvc status` failed.
    """
    done = subprocess.run(
        dvc_command("status", "--json"), cwd=root, env=stage_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DvcError(f"`dvc status` failed in {root}:\n{done.stderr.strip()}")
    status: Mapping[str, Any] = json.loads(done.stdout or "{}")
    return set(status) & set(names)


def retry_can_help(_task: Any, _task_run: Any, state: Any) -> bool:
    """Prefect's retry condition: the failure is transient."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageError) and error.may_pass


@task(
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[5, 30],
    retry_condition_fn=retry_can_help,
)
def reproduce_stage(
    name: str, root: Path, environment: Mapping[str, str] | None = None, *, pull: bool = False
) -> StageResult:
    """Bring one stage up to date with `dvc repro --single-item`; DVC decides whether it has to run.

    Args:
        name: Name of the stage, e.g. `tune@gpt2-cb`.
        root: Folder with `dvc.yaml`.
        environment: Environment variables for the stage, in addition to this process's.
        pull: Take results from the DVC remote if somebody has pushed them.

    Raises:
        StageError: the stage failed.
    """
    started = time.monotonic()
    outcome = run_stage(name, root, environment, pull=pull)
    return StageResult(name, outcome, round(time.monotonic() - started, 2))


def run_stage(name: str, root: Path, environment: Mapping[str, str] | None = None, *, pull: bool = False) -> Outcome:
    """Like `reproduce_stage`, for use within another task or flow. Waits for the GPU if the stage needs one.

    Raises:
        StageError: the stage failed.
    """
    arguments = ["--pull"] if pull else []
    with gpu_slot(_device(root)):
        finished = stream(
            dvc_command("repro", "--single-item", *arguments, name),
            root=root,
            environment=stage_environment(environment),
            on_line=get_run_logger().info,
        )
    if finished.returncode != 0:
        raise StageError(name, finished.returncode, finished.last_lines)
    return outcome_of(name, finished.stdout)


def _device(root: Path) -> str:
    return load_params(root / "params.yaml").models.device


def outcome_of(name: str, stdout: Collection[str]) -> Outcome:
    """Parse DVC's output for what it did with a stage.

    >>> outcome_of("tune@gpt2-cb", ["Stage 'tune@gpt2-cb' didn't change, skipping"])
    'unchanged'
    """
    if any(f"Stage '{name}' didn't change, skipping" in line for line in stdout):
        return "unchanged"
    if any(f"Stage '{name}' is cached - skipping run" in line for line in stdout):
        return "cached"
    return "ran"


def _matching(target: str, names: Collection[str]) -> list[str]:
    found = [name for name in names if name == target or name.startswith(f"{target}@")]
    if not found:
        raise ConfigError(unknown("stage", target, {*names, *(name.partition("@")[0] for name in names)}))
    return found
