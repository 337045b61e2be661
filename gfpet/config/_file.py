"""Reads and writes `params.yaml`, and reports all of its errors at once, before anything runs.

Uses DVC's parser (ruamel, YAML 1.2), so that both see the same values: `3e-3` is a number in YAML 1.2 and a string in
YAML 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gfpet.config._models import DERIVE, Checkpoint, LargeCheckpoint
from gfpet.config._params import Params
from gfpet.config._section import PROJECT
from gfpet.config._yaml_edit import write_values
from gfpet.errors import ConfigError, nearest, unknown
from gfpet.lm.registry import FAMILY_NAMES

Change = tuple[str, Any, Any]
"""Dotted key, old value, new value. An old value of None may also mean that the key was missing."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        ConfigError: the file is missing or not YAML; or one line for each key that is unknown, missing, duplicate or
            has a value that is not allowed.
    """
    path = Path(path)
    values, problems = _read(path)
    return _check(values, path.parent, str(path), problems)


def preset_names(path: str | Path = "params.yaml") -> list[str]:
    """Names of the presets in `presets/` beside `params.yaml`."""
    return sorted(file.stem for file in (Path(path).parent / "presets").glob("*.yaml"))


def apply_preset(name: str | None, overrides: Sequence[str] = (), path: str | Path = "params.yaml") -> list[Change]:
    """Write defaults, preset and overrides to `params.yaml`, each on top of the one before; comments stay.

    Without a preset, the overrides change the present file. Nothing is written unless the result is valid.

    Args:
        name: file name in `presets/` without `.yaml`, or None.
        overrides: `key=value` with a dotted key and a YAML value: `bridge.epochs=8`, `tasks=[cb, rte]`.
        path: the parameter file; `presets/` is in the same folder.

    Returns:
        The keys whose values changed, as (key, old, new).

    Raises:
        ConfigError: an unknown preset, a malformed override, or a value that is not allowed.
    """
    path = Path(path)
    current, checked = _resolve(name, overrides, path)
    values = checked.model_dump(mode="json")
    before, after = flatten_keys(current), flatten_keys(values)
    changes = [(key, before.get(key), new) for key, new in after.items() if key not in before or before[key] != new]
    if changes or set(before) - set(after):
        write_values(path, values)
    return changes


def _read(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The file's mapping, and one error line for each duplicate key (the other checks use its last value)."""
    if not path.exists():
        raise ConfigError(f"no parameters at {path}; run inside the project, or restore it (git checkout {path.name}).")
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    try:
        text = path.read_text(encoding="utf-8")
        root = YAML(typ="safe", pure=True).compose(text)
        values = yaml.load(text)
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: found {type(values).__name__} {values!r}; it must hold keys and their values.")
    return _with_text_keys(values), list(_duplicates(root, ""))


def _duplicates(node: Node | None, prefix: str) -> Iterator[str]:
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield from _duplicates(item, prefix)
    if not isinstance(node, MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name = f"{prefix}{key.value if isinstance(key, ScalarNode) else '?'}"
        line = key.start_mark.line + 1
        if name in lines:
            yield f"{name}: given twice, in lines {lines[name]} and {line}; keep one."
        lines[name] = line
        yield from _duplicates(value, f"{name}.")


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _with_text_keys(item) for key, item in value.items()}
    return [_with_text_keys(item) for item in value] if isinstance(value, list) else value


def with_preset(name: str | None, overrides: Sequence[str] = (), path: str | Path = "params.yaml") -> Params:
    """The parameters that `apply_preset` would write, without writing them.

    Raises:
        ConfigError: as for `apply_preset`.
    """
    return _resolve(name, overrides, Path(path))[1]


def with_values(params: Params, changes: Mapping[str, Any]) -> Params:
    """A copy of the parameters with new values for some dotted keys.

    Raises:
        ConfigError: an unknown key, or a value that is not allowed.
    """
    values = params.model_dump(mode="json")
    for key, value in changes.items():
        _override(values, f"{key}={json.dumps(value)}")
    return _check(values, Path(), "changed parameters", [])


def _resolve(name: str | None, overrides: Sequence[str], path: Path) -> tuple[dict[str, Any], Params]:
    if not path.exists():
        raise ConfigError(f"no parameters at {path}; run inside the project, or restore it (git checkout {path.name}).")
    problems: list[str] = []
    current, current_problems = _read(path)
    if name is None:
        wanted = deepcopy(current)
        problems += current_problems
        source = str(path)
    else:
        names = preset_names(path)
        if name not in names:
            raise ConfigError(unknown("preset", name, names))
        file = path.parent / "presets" / f"{name}.yaml"
        differences, preset_problems = _read(file)
        problems += preset_problems
        wanted = Params().model_dump(mode="json")
        _merge(wanted, differences)
        wanted["preset"] = name
        source = str(file)
    if overrides:
        source += " with " + " ".join(overrides)
    for override in overrides:
        _override(wanted, override)
    return current, _check(wanted, path.parent, source, problems)


def _check(values: dict[str, Any], root: Path, source: str, problems: Sequence[str]) -> Params:
    found = [*problems, *_missing(values, Params().model_dump(mode="json"), "")]
    params = None
    try:
        # JSON: strict validation of Python objects refuses a list for a tuple, and lax validation takes "6" and true
        # as numbers.
        params = Params.model_validate_json(json.dumps(values, default=str), strict=True, context={PROJECT: root})
    except ValidationError as error:
        found += [_line(item) for item in error.errors() if item["type"] != "missing"]
    found += _unpinned(values, root)
    found += _without_gradients(params) if params is not None else ()
    if found or params is None:
        count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
        raise ConfigError(f"{source}: {count}\n" + "\n".join(f"  {line}" for line in found))
    return params


def _missing(values: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key, default in defaults.items():
        if key not in values:
            yield f"{prefix}{key}: missing; its default is {_show(default)}"
        elif isinstance(default, dict) and isinstance(values[key], dict):
            yield from _missing(values[key], default, f"{prefix}{key}.")


def _line(error: Any) -> str:
    loc = tuple(part for part in error["loc"] if part != "[key]")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden" or error["loc"][-1:] == ("[key]",):
        siblings = Params().model_dump(mode="json")
        for part in loc[:-1]:
            siblings = siblings[part]
        guess = _guess(str(loc[-1]), siblings) or _moved(str(loc[-1]))
        return f"{key}: unknown key{guess}; allowed here: {', '.join(siblings)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"{key}: got {_show(error['input'])}; allowed: {', '.join(allowed)}{_guess(error['input'], allowed)}"
    if kind == "value_error":
        return f"{key}: {context['error']}"
    must = error["msg"].removeprefix("Input should be ")
    return f"{key}: got {_show(error['input'])}; it must be {must}"


def _guess(name: Any, allowed: Any) -> str:
    close = nearest(name, allowed) if isinstance(name, str) else None
    return f"; did you mean '{close}'?" if close else ""


def _moved(name: str) -> str:
    """A hint if exactly one other section has a key of that name."""
    found = [key for key in flatten_keys(Params().model_dump(mode="json")) if key.rpartition(".")[2] == name]
    return f"; did you mean '{found[0]}'?" if len(found) == 1 else ""


def _show(value: Any) -> str:
    text = json.dumps(value, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _unpinned(values: dict[str, Any], root: Path) -> Iterator[str]:
    """An error line for each hub id without a commit: its weights could change, and every result with them."""
    for family, pair in (values.get("models") or {}).items() if isinstance(values.get("models"), dict) else ():
        for size in ("small", "large"):
            checkpoint = pair.get(size) if isinstance(pair, dict) else None
            if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("path"), str):
                continue
            path, revision = checkpoint["path"], checkpoint.get("revision")
            if not is_hub_id(path, root) or (isinstance(revision, str) and _COMMIT.fullmatch(revision)):
                continue
            yield (
                f"models.{family}.{size}.revision: got {_show(revision)}; models.{family}.{size}.path {path!r} is no "
                "folder here, and as a hub id it needs the commit of its repository (40 hexadecimal digits)"
            )


def _without_gradients(params: Params) -> Iterator[str]:
    """Problems with gradients of a large model that is offloaded or quantised."""
    for family in params.families:
        large = checkpoints(params, family)[1]
        offloaded, quantised = large.device_map != "single", large.quantisation != "none"
        wanted = [method for method in params.reference.methods if offloaded or (quantised and method == "full")]
        which = f"models.{family}.large.{'device_map' if offloaded else 'quantisation'}"
        value = large.device_map if offloaded else large.quantisation
        if wanted:
            yield (
                f"reference.methods: {', '.join(wanted)} would take gradients of the large model, "
                f"which {which}={value} does not allow; leave them out ([] leaves the table without its ceiling)"
            )
        if params.prune.importance == "fisher" and (offloaded or quantised):
            yield (
                f"prune.importance: fisher takes gradients of the large model, which {which}={value} does not allow; "
                "take activation or magnitude"
            )


def is_hub_id(path: str, root: Path = Path()) -> bool:
    """Whether a model's `path` is a name on the hub (`gpt2`, `org/name`) rather than a folder.

    A path that exists, starts with `.`, `/` or `~`, or has more than one slash is a folder. A path that ends in `.gguf`
    is a file. `derive` is neither.
    """
    if path == DERIVE or path.lower().endswith(".gguf"):
        return False
    return not path.startswith((".", "/", "~")) and path.count("/") <= 1 and not (root / path).is_dir()


def _merge(base: dict[str, Any], differences: Mapping[str, Any]) -> None:
    for key, value in differences.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, as in bridge.epochs=8.")
    try:
        value = _with_text_keys(YAML(typ="safe", pure=True).load(text))
    except YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value ({error}).") from error
    known = list(flatten(Params()))
    sections = {name.rpartition(".")[0] for name in known} | {name.partition(".")[0] for name in known}
    if key not in known and key not in sections:
        raise ConfigError(f"override {override!r}: unknown key '{key}'{_guess(key, known)}")
    *parents, last = key.split(".")
    target = values
    for part in parents:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError(f"override {override!r}: '{part}' is not a section; it holds {_show(target)}.")
    _merge(target, {last: value})


def flatten_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def flatten(params: Params) -> dict[str, Any]:
    """All parameters by dotted key, as plain values: `{"prune.factor": 4.0, "tasks": ["cb"], ...}`."""
    return flatten_keys(params.model_dump(mode="json"))


def checkpoints(params: Params, family: str) -> tuple[Checkpoint, LargeCheckpoint]:
    """The small and the large checkpoint of a family.

    Raises:
        ConfigError: no such family.
    """
    if family not in FAMILY_NAMES:
        raise ConfigError(unknown("family", family, FAMILY_NAMES))
    pair = getattr(params.models, family)
    return pair.small, pair.large
