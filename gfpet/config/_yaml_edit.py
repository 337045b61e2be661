"""Changes a YAML file without losing its comments."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set a YAML file to `values`, atomically. Remaining keys keep comments, order and style; keys that are not in
    `values` are removed; new lists are written in one line.
    """
    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.allow_duplicate_keys = True
    document = yaml.load(path.read_text(encoding="utf-8")) or {}
    _update(document, values)
    _unalign(document)
    out = io.StringIO()
    yaml.dump(document, out)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(out.getvalue(), encoding="utf-8")
    temporary.replace(path)


def _update(document: Any, values: Mapping[str, Any]) -> None:
    for key in [key for key in document if key not in values]:
        del document[key]
    for key, value in values.items():
        if isinstance(value, dict):
            if not isinstance(document.get(key), dict):
                document[key] = {}
            _update(document[key], value)
        elif key not in document or json.dumps(document[key], default=str) != json.dumps(value):
            if isinstance(value, list) and isinstance(document.get(key), CommentedSeq):
                document[key][:] = value  # in place: the comment after a list belongs to the list object
            elif isinstance(value, list):
                document[key] = CommentedSeq(value)
                document[key].fa.set_flow_style()
            else:
                document[key] = value


def _unalign(document: Any) -> None:
    """Put one space before each comment. Otherwise the dumper keeps old columns, and pads more with each change."""
    for tokens in document.ca.items.values():
        for token in tokens:
            if token is not None and not isinstance(token, list):
                token.start_mark.column = 0
    for value in document.values() if isinstance(document, CommentedMap) else ():
        if isinstance(value, CommentedMap | CommentedSeq):
            _unalign(value)
