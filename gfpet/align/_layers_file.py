"""The layer map as a file."""

from __future__ import annotations

import json
from pathlib import Path

from gfpet.errors import DataError
from gfpet.plug import LayerMap


def save_pairs(path: Path, pairs: LayerMap, *, name: str, small_layers: int, large_layers: int) -> None:
    """Write `{"name", "pairs": [[l of L, m of S], ...], "small_layers", "large_layers"}`."""
    about = {
        "name": name,
        "pairs": [list(pair) for pair in pairs],
        "small_layers": small_layers,
        "large_layers": large_layers,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about) + "\n", encoding="utf-8")


def load_pairs(path: Path) -> LayerMap:
    """The pairs (block of L, block of S) that `save_pairs` wrote.

    Raises:
        DataError: the file is missing or holds no layer map.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        pairs = tuple((int(large), int(small)) for large, small in about["pairs"])
        depths = int(about["large_layers"]), int(about["small_layers"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"no layer map at {path} ({error!r}); run the stage 'align' first.") from error
    beyond = [pair for pair in pairs if not (0 <= pair[0] < depths[0] and 0 <= pair[1] < depths[1])]
    if beyond or not pairs:
        found = f"the pair {list(beyond[0])}" if beyond else "no pair"
        raise DataError(
            f"{path} has {found}; pairs (block of L, block of S) lie in 0 to {depths[0] - 1} and 0 to {depths[1] - 1}. "
            "Run the stage 'align' again."
        )
    return pairs
