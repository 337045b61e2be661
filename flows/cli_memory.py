"""`gfpet memory`: peak-memory estimates of each method under fake tensors, and settings that fit a budget."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli_errors import errors_as_text
from gfpet.errors import ConfigError, unknown
from gfpet.lm.registry import KIND_NAMES, TUNING_METHODS
from tasks.workspace import find_root

if TYPE_CHECKING:
    from gfpet.config import Checkpoint, Params
    from gfpet.estimate import Estimate, Shape, Workload

memory = typer.Typer(
    name="memory", help="Peak memory of every method, without its hardware or its weights.", no_args_is_help=True
)


def _known_kind(name: str) -> str:
    if name not in KIND_NAMES:
        raise typer.BadParameter(unknown("kind of module", name, KIND_NAMES))
    return name


Kind = Annotated[str, typer.Option(help=f"Kind of module of gfpet: {', '.join(KIND_NAMES)}.", callback=_known_kind)]
Preset = Annotated[str | None, typer.Option(help="Settings of presets/NAME.yaml; by default params.yaml as it is.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", "-S", metavar="KEY=VALUE", help="Change one key, as in prune.factor=8.")
]
Large = Annotated[str | None, typer.Option(help="Another L: a known name, a folder, or ID@REVISION of the hub.")]
Small = Annotated[str | None, typer.Option(help="Another S, likewise.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Rows of a batch in every stage; else each section's own.")]
Length = Annotated[int | None, typer.Option(min=4, help="Tokens of a row; else models.max_length.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes.")]

_UNITS = {"gb": 10**9, "gib": 2**30, "mb": 10**6, "mib": 2**20}


@memory.command()
def estimate(
    preset: Preset = None,
    overrides: Overrides = None,
    large: Large = None,
    small: Small = None,
    batch: Batch = None,
    length: Length = None,
    workers: Workers = 2,
    as_json: Json = False,
    report: Annotated[bool, typer.Option(help="Also write reports/memory.md with plots.")] = False,
) -> None:
    """Estimate the peak of every stage of every method, and its ratio to ours."""
    with errors_as_text():
        from gfpet.estimate import estimate_methods

        root = find_root(Path.cwd())
        pair = _resolve(root, preset, overrides, large, small, batch, length)
        found = estimate_methods(pair.small, pair.large, pair.work, pair.params, workers=workers, say=_told)
        record = pair.record(found)
        if report:
            from gfpet.report import write_estimates

            typer.echo(f"report: {write_estimates([record], root / 'reports')}", err=True)
        _print(record, as_json)


@memory.command()
def curve(
    preset: Preset = "gpt2-xl",
    overrides: Overrides = None,
    batch: Batch = None,
    length: Length = None,
    workers: Workers = 2,
    as_json: Json = False,
) -> None:
    """Estimate peaks for sizes of L from 0.1B to 66B; write reports/memory.md, with the preset's own pair first."""
    with errors_as_text():
        from gfpet.estimate import CURVE, Method, estimate_methods
        from gfpet.report import write_estimates

        root = find_root(Path.cwd())
        others = [Method("full"), Method("lora"), Method("lora", True), Method("mezo"), Method("ladder side-tuning")]
        runs = []
        for small, large in CURVE:
            typer.echo(large, err=True)
            pair = _resolve(root, preset, overrides, large, small, batch, length)
            found = estimate_methods(
                pair.small, pair.large, pair.work, pair.params, others=others, kinds=["lora"], workers=workers
            )
            runs.append(pair.record(found))
        own = _resolve(root, preset, overrides, None, None, batch, length)
        record = own.record(estimate_methods(own.small, own.large, own.work, own.params, workers=workers, say=_told))
        path = write_estimates([record], root / "reports", runs)
        typer.echo(json.dumps(runs, indent=1) if as_json else f"report: {path}")


@memory.command()
def plan(
    budget: Annotated[str, typer.Option(help="Memory that there is, as in 24GB or 8GiB.")],
    preset: Preset = None,
    overrides: Overrides = None,
    large: Large = None,
    small: Small = None,
    batch: Batch = None,
    length: Length = None,
    kind: Kind = "lora",
    as_json: Json = False,
) -> None:
    """Show which stages fit in a budget, which settings make the others fit, and what that costs in time."""
    with errors_as_text():
        from gfpet.config import with_values
        from gfpet.estimate import plan_within

        size = _bytes(budget)
        pair = _resolve(find_root(Path.cwd()), preset, overrides, large, small, batch, length)
        fits, keys = plan_within(size, pair.small, pair.large, pair.work, pair.params, with_values, kind=kind)
        if as_json:
            stages = [{**vars(fit), "cost": list(fit.cost)} for fit in fits]
            typer.echo(json.dumps({"budget": size, "large": pair.large.name, "stages": stages, "set": keys}, indent=1))
        else:
            from gfpet.report import Table

            rows = [
                (fit.stage, f"{fit.before / 2**30:.2f}", f"{fit.after / 2**30:.2f}", "yes" if fit.fits else "NO",
                 "; ".join(fit.cost))
                for fit in fits
            ]  # fmt: skip
            header = ("stage", "GiB now", "GiB then", "fits", "what it costs")
            typer.echo(Table(f"{pair.large.name} in {budget}, module: {kind}", header, rows).text())
            settings = " ".join(f"-S {key}={json.dumps(value)}" for key, value in keys.items())
            typer.echo(f"settings: {settings or 'as they are'}")
        if not all(fit.fits for fit in fits):
            raise typer.Exit(1)


@memory.command()
def profile(
    stage: Annotated[
        str, typer.Argument(help=f"bridge, tune S, or a gradient method of L: {', '.join(TUNING_METHODS)}.")
    ],
    preset: Preset = None,
    overrides: Overrides = None,
    large: Large = None,
    small: Small = None,
    batch: Batch = None,
    length: Length = None,
    kind: Kind = "lora",
    as_json: Json = False,
) -> None:
    """Show what is alive at the peak of a stage, by category and by allocating module; also as a plot."""
    with errors_as_text():
        from gfpet.estimate import profile_stage
        from gfpet.report import plot_modules

        root = find_root(Path.cwd())
        pair = _resolve(root, preset, overrides, large, small, batch, length)
        parts = profile_stage(stage, kind, pair.small, pair.large, pair.work, pair.params)
        ordered = sorted(parts.items(), key=lambda part: -part[1])
        name = re.sub(r"\W+", "-", f"{pair.large.name.rsplit('/', 1)[-1]}-{stage}-{kind}")
        path = root / "reports" / "memory" / f"profile-{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plot_modules(
            {(str(c), module): size for (c, module), size in parts.items()}, f"{pair.large.name}: {stage}", path
        )
        if as_json:
            records = [{"category": c, "module": module, "bytes": size} for (c, module), size in ordered]
            typer.echo(json.dumps({"stage": stage, "peak": sum(parts.values()), "parts": records}, indent=1))
            return
        for (category, module), size in ordered[:25]:
            typer.echo(f"{size / 2**20:10.1f} MiB  {category:<12} {module or '(outside of modules)'}")
        typer.echo(f"{sum(parts.values()) / 2**20:10.1f} MiB  in all\nplot: {path}")


@memory.command()
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(TUNING_METHODS)}, mezo, ladder side-tuning, gfpet."),
    ] = None,
    preset: Preset = None,
    overrides: Overrides = None,
    large: Large = None,
    small: Small = None,
    batch: Batch = None,
    length: Length = None,
    kind: Kind = "lora",
    stages: Annotated[
        list[str] | None, typer.Option("--stage", help="Only this stage of gfpet; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare the estimates with the same steps run with real tensors (random weights)."""
    with errors_as_text():
        from gfpet.estimate import compare

        pair = _resolve(find_root(Path.cwd()), preset, overrides, large, small, batch, length)
        rows = compare(names or ["gfpet"], kind, pair.small, pair.large, pair.work, pair.params, stages, say=_told)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        for row in rows:
            off = row["estimated"] / row["measured"] - 1
            typer.echo(
                f"{row['method']:<24} {row['stage']:<8} measured {row['measured'] / 2**30:8.3f} GiB  "
                f"estimated {row['estimated'] / 2**30:8.3f} GiB  {off:+.1%}  RSS {row['rss'] / 2**30:.2f} GiB  "
                f"{row['seconds']:.0f} s"
            )


@dataclass(frozen=True)
class _Pair:
    """A pair of models with workload and parameters."""

    small: Shape
    large: Shape
    work: Workload
    params: Params

    def record(self, found: list[Estimate]) -> dict[str, Any]:
        """The record that `--json` prints."""
        from gfpet.estimate import as_records, parameters_of

        checkpoints = getattr(self.params.models, self.large.family)
        return {
            "preset": self.params.preset,
            "family": self.large.family,
            "small": self.small.name,
            "large": self.large.name,
            "parameters": parameters_of(self.large),
            "batch": self.work.batch,
            "length": self.work.length,
            "device": str(self.work.device),
            "dtype": {"large": checkpoints.large.dtype, "reference": self.params.reference.dtype},
            "methods": as_records(found),
        }


def _resolve(
    root: Path,
    preset: str | None,
    overrides: list[str] | None,
    large: str | None,
    small: str | None,
    batch: int | None,
    length: int | None,
) -> _Pair:
    import torch

    from gfpet.config import DERIVE, with_preset, with_values
    from gfpet.estimate import Workload, derived_shape, find_shape

    params = with_preset(preset, overrides or (), root / "params.yaml")
    if not params.kinds:
        raise ConfigError(
            "kinds is empty, and the estimate of gfpet needs one: add -S 'kinds=[lora]'. What a readout takes is "
            "in the column readout."
        )
    if batch is not None:
        sections = ("tune", "reference", "bridge", "readout", "align", "prune", "evaluate")
        params = with_values(params, {f"{section}.batch_size": batch for section in sections})
    given = find_shape(*large.split("@", 1)) if large else None
    family = given.family if given else params.families[0]
    pair = getattr(params.models, family)
    of_large = _shape(root, large, pair.large)
    derived = small is None and pair.small.path == DERIVE
    of_small = derived_shape(of_large, params) if derived else _shape(root, small, pair.small)
    work = Workload(params.reference.batch_size, length or params.models.max_length, torch.device("cpu"))
    return _Pair(of_small, of_large, work, params)


def _shape(root: Path, wanted: str | None, checkpoint: Checkpoint) -> Shape:
    from gfpet.estimate import find_shape

    name, _, revision = (wanted or "").partition("@")
    path = name or (str(root / checkpoint.path) if (root / checkpoint.path).is_dir() else checkpoint.path)
    return find_shape(path, revision or (None if name else checkpoint.revision))


def _bytes(text: str) -> int:
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]+)\s*", text)
    if not found or found[2].lower() not in _UNITS:
        raise ConfigError(f"--budget is '{text}'; give a number and a unit: 24GB, 8GiB, 500MB.")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _told(name: str) -> None:
    typer.echo(f"  {name}", err=True)


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record, indent=1))
        return
    from gfpet.report import estimate_table

    title = (
        f"{record['large']} with {record['small']}: batch {record['batch']}, length {record['length']}; peak of live "
        "tensors in GiB"
    )
    typer.echo(estimate_table(record["methods"], title).text())
