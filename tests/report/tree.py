"""A small tree of stage outputs with round numbers, so that results can be computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gfpet.results import ResultRow, write_results

MB = 1_000_000


def row(task: str, method: str, value: float, kind: str = "", seed: int | None = None, **more: Any) -> ResultRow:
    """A row of metric `score` with an interval of 5 points to each side."""
    about: dict[str, Any] = {"metric": "score", "n": 100, "ci_low": value - 0.05, "ci_high": value + 0.05} | more
    return ResultRow(
        family="gpt2", small="S", large="L", task=task, kind=kind, method=method, seed=seed, value=value, **about
    )


def phase(seconds: float, size: int | None, cuda: int | None = None) -> dict[str, Any]:
    """Measurements of one phase."""
    sizes = {"cpu_live_peak_bytes": size, "cuda_allocated_peak_bytes": cuda, "rss_peak_bytes": 900 * MB}
    return {"seconds": seconds, "steps": 3} | {name: value for name, value in sizes.items() if value is not None}


def write_metrics(root: Path, where: str, memory: dict[str, Any]) -> None:
    path = root / "metrics" / f"{where}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seconds": 99.0, "memory": memory, "values": {}}))


def write_tree(root: Path, tasks: tuple[str, ...] = ("cb", "copa"), references: bool = True) -> None:
    """Write the tree: kind LoRA, seeds 0 and 1, by default tasks CB and COPA."""
    outputs = root / "outputs"
    for number, task in enumerate(tasks):
        up = 0.1 * number
        seeds = (0, 1)
        tuned = [row(task, "small_tuned", 0.30 + up + 0.02 * seed, "lora", seed) for seed in seeds]
        write_results(outputs / "tune/gpt2" / task / "results.json", tuned)
        plugged = [row(task, "plugged", 0.50 + up + 0.1 * seed, "lora", seed, strategy="algorithm1") for seed in seeds]
        random = [row(task, "random_w_plug", 0.40 + up, "lora", seed) for seed in seeds]
        evaluated = [row(task, "zero_shot", 0.40 + up), *plugged, *random]
        write_results(outputs / "evaluate/gpt2" / task / "results.json", evaluated)
        gradient = [row(task, "gradient", 0.80 + up, "lora", seed) for seed in seeds]
        full = [row(task, "full", 0.90 + up, seed=0)]
        write_results(outputs / "reference/gpt2" / task / "results.json", [*gradient, *full] if references else [])
        tags = [f"lora-seed{seed}" for seed in seeds]
        write_metrics(
            root,
            f"tune/gpt2/{task}",
            {f"train/{tag}": phase(2, 10 * MB) for tag in tags} | {f"infer/{tag}": phase(1, 4 * MB) for tag in tags},
        )
        trained = {f"train/{tag}": phase(10, 90 * MB) for tag in tags}
        trained |= {f"infer/{tag}": phase(1, 30 * MB) for tag in tags}
        trained |= {"train/full-seed0": phase(20, 160 * MB), "infer/full-seed0": phase(1, 30 * MB)}
        write_metrics(root, f"reference/gpt2/{task}", trained if references else {})
        bridged = {"cache": phase(3, 25 * MB)} | {f"train/{tag}": phase(4, (20 + number) * MB) for tag in tags}
        write_metrics(root, f"bridge/gpt2/{task}", bridged)
        write_metrics(root, f"readout/gpt2/{task}", {})
        inferred = {"infer/zero-shot": phase(0.5, 29 * MB)} | {f"infer/{tag}": phase(1, 30 * MB) for tag in tags}
        inferred |= {f"infer-random/{tag}": phase(1, 31 * MB) for tag in tags}
        write_metrics(root, f"evaluate/gpt2/{task}", inferred)
    write_metrics(root, "align/gpt2", {"activations": phase(5, 33 * MB), "solve": phase(1, 12 * MB)})
    write_metrics(root, "derive/gpt2", {})
    write_metrics(root, "prune/gpt2", {"prune": phase(6, 32 * MB)})


def write_similarity(root: Path, tasks: tuple[str, ...] = ("cb", "copa")) -> None:
    controls = {"random_map": 0.01, "untrained": None, "other_task": 0.2, "other_seed": 0.9}
    rows = [
        {
            "task": task,
            "kind": "lora",
            "seed": seed,
            "measure": measure,
            "value": value + 0.1 * seed,
            "controls": controls,
            "heatmap": [[0.1, 0.2, 0.3 + 0.2 * seed], [0.4, 0.5, 0.6]] if measure == "linear_cka" else None,
        }
        for task in tasks
        for seed in (0, 1)
        for measure, value in (("cosine", 0.4), ("linear_cka", 0.6))
    ]
    path = root / "outputs/similarity/gpt2/similarity.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": rows}))
