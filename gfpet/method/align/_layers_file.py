"""Reads and writes the file of the layer assignment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gfpet.errors import DataError
from gfpet.method.plug import LayerAssignment, LayerPairs


def save_pairs(
    path: Path, pairs: LayerAssignment, *, name: str, small: Mapping[str, int], large: Mapping[str, int]
) -> None:
    """Write `{"name", "stacks": {<stack>: {"pairs": [[l of L, m of S], ...], "small_layers", "large_layers"}}}`.

    Args:
        small: depths of the small model, by stack.
        large: depths of the large model, by stack.
    """
    stacks = {
        stack: {
            "pairs": [list(pair) for pair in own],
            "small_layers": small[stack],
            "large_layers": large[stack],
        }
        for stack, own in pairs.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, "stacks": stacks}) + "\n", encoding="utf-8")


def load_pairs(path: Path) -> LayerAssignment:
    """Read the pairs (block of L, block of S) of each stack, as written by `save_pairs`.

    Raises:
        DataError: the file is missing or holds no layer assignment.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        found = {stack: _checked(path, stack, own) for stack, own in about["stacks"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"no layer assignment at {path} ({error!r}); run the stage 'align' first.") from error
    if not found:
        raise DataError(f"{path} has no stack of blocks; run the stage 'align' again.")
    return found


def _checked(path: Path, stack: str, about: Mapping[str, Any]) -> LayerPairs:
    pairs = tuple((int(large), int(small)) for large, small in about["pairs"])
    depths = int(about["large_layers"]), int(about["small_layers"])
    beyond = [pair for pair in pairs if not (0 <= pair[0] < depths[0] and 0 <= pair[1] < depths[1])]
    if beyond or not pairs:
        wrong = f"the pair {list(beyond[0])}" if beyond else "no pair"
        raise DataError(
            f"{path} has {wrong} for the {stack}; pairs (block of L, block of S) lie in 0 to {depths[0] - 1} and 0 to "
            f"{depths[1] - 1}. Run the stage 'align' again."
        )
    return pairs
