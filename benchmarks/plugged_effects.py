"""Where Algorithm 1 loses accuracy: compares the effects on L of the plugged module and of L's own module.

Usage, after a `gfpet run` with references: python -m benchmarks.plugged_effects FAMILY TASK [KIND ...]

Each kind has three modules: L's own (tuned with gradients, stage `reference`), S's mapped by the fitted `W_plug`
(`closed form`), and the latter after training with the Bridge (`plugged`). Each is inserted into L, first whole, then
one block at a time. Its effects on the residual stream after the block and on the scores of the candidates (`answers`)
are compared with those of L's own module at that block. Size is the ratio of the norms. Uses held-out training
examples, and runs L forward only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from gfpet.config import Params, load_params
from gfpet.lm.families import Family
from gfpet.lm.models import FrozenModel, LoadedModel
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import Predictions, Split, TaskData, backbone_of, batches, head_of, predict, task_score
from gfpet.method.align import load_pairs
from gfpet.method.plug import Projection, plugged
from gfpet.report import Table
from gfpet.similarity import Alike, Block, Effects, alike, answer_change, at_blocks, effects, numbered, residuals
from gfpet.stages._inputs import OUTPUTS, load_examples, load_model
from tasks.workspace import find_root

_TOKENS = 2000
_BATCH = 64


class _Large:
    """L and the held-out examples."""

    def __init__(self, loaded: LoadedModel, data: TaskData) -> None:
        self.family: Family = loaded.family
        self._frozen, self._data = FrozenModel(loaded.model), data
        self._batches = [each for _, each in batches(data.dev.encoded, size=_BATCH, pad=data.pad)]
        self.blocks = numbered(loaded.family.depths_of(loaded.model))
        with self._frozen.forward_only() as model:
            self._plain = residuals(model, self.family, self._batches, tokens=_TOKENS)
        self.zero_shot = self.predict_with(None)

    def predict_with(self, module: PetModule | None) -> Predictions:
        """L's predictions on the examples, with or without a module."""
        with self._frozen.forward_only() as model:
            if module is None:
                return self._predict(model)
            with inserted(model, self.family, module):
                return self._predict(model)

    def _predict(self, model: torch.nn.Module) -> Predictions:
        dev: Split = self._data.dev
        backbone = backbone_of(model, self.family)
        return predict(dev.encoded, backbone, head_of(model), batch_size=_BATCH, pad=self._data.pad)

    def effects(self, module: PetModule) -> Effects:
        """The change of the residual stream after each block by a module."""
        with self._frozen.forward_only() as model:
            return effects(model, self.family, module, self._batches, self._plain, tokens=_TOKENS)

    def points(self, predictions: Predictions) -> str:
        """The task's score in points, as text."""
        return f"{100 * task_score(self._data.task, self._data.dev.examples, predictions.choices):.1f}"


def plugged_effects(params: Params, family: str, task: str, kinds: Sequence[str]) -> list[Table]:
    """One table for each kind, with the first seed."""
    loaded = load_model(params, family, "large")
    large = _Large(loaded, load_examples(params, task, loaded))
    return [_table(params, large, family, task, kind) for kind in kinds]


def _table(params: Params, large: _Large, family: str, task: str, kind: str) -> Table:
    name = f"{kind}-seed{params.seeds[0]}.safetensors"
    own = PetModule.load(OUTPUTS / "reference" / family / task / name)
    tuned = PetModule.load(OUTPUTS / "tune" / family / task / name)
    maps = Projection.load(OUTPUTS / "align" / family / "maps.safetensors", tuned)
    pairs = load_pairs(OUTPUTS / "align" / family / "layers.json")
    ours = {
        "closed form": plugged(tuned, maps, pairs, divide_by_copies=params.plug.divide_by_copies).detached(),
        "plugged": PetModule.load(OUTPUTS / "bridge" / family / task / name),
    }
    whole = large.predict_with(own)
    change = answer_change(whole, large.zero_shot)
    cells = ["whole", large.points(large.zero_shot), large.points(whole), "", ""]
    for module in ours.values():
        predictions = large.predict_with(module)
        cells += [
            large.points(predictions),
            *_cosine_and_size(alike(answer_change(predictions, large.zero_shot), change)),
            "",
            "",
        ]
    rows = [tuple(cells)]
    for block, number in large.blocks.items():
        if block[1] in own.layers.get(block[0], ()):
            rows.append(_row(large, ours, own, block, number, float(change.norm())))
    beside = [
        f"{name}: {what}" for name in ours for what in ("score", "answers, cosine", "size", "stream, cosine", "size")
    ]
    header = ("blocks with a module", "zero-shot", "L's own: score", "answers, part of whole", "stream", *beside)
    return Table(f"{family}, {task}, {kind}", header, rows)


def _row(
    large: _Large, ours: dict[str, PetModule], own: PetModule, block: Block, number: int, whole: float
) -> tuple[str, ...]:
    """The row of one block: the effect of L's own module there, and of each of our modules in its place."""
    part = at_blocks(own, [block])
    predictions, stream = large.predict_with(part), large.effects(part)[number]
    change = answer_change(predictions, large.zero_shot)
    cells = [f"{block[0]} {block[1]}", "", large.points(predictions), f"{float(change.norm()) / whole:.2f}"]
    cells.append(f"{float(stream.norm()) / len(stream) ** 0.5:.2f}")
    for module in ours.values():
        if block[1] not in module.layers.get(block[0], ()):
            cells += [""] * 5
            continue
        there = at_blocks(module, [block])
        predictions = large.predict_with(there)
        cells += [
            large.points(predictions),
            *_cosine_and_size(alike(answer_change(predictions, large.zero_shot), change)),
        ]
        cells += _cosine_and_size(alike(large.effects(there)[number], stream))
    return tuple(cells)


def _cosine_and_size(found: Alike) -> tuple[str, str]:
    cosine, size = ("" if value is None else f"{value:.2f}" for value in (found.cosine, found.size))
    return cosine, size


def main() -> None:
    """Print the tables of a family and a task, for all kinds or those given."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    params = load_params(find_root(Path.cwd()) / "params.yaml")
    family, task, *kinds = sys.argv[1:]
    for table in plugged_effects(params, family, task, kinds or params.kinds):
        print(table.markdown())


if __name__ == "__main__":
    main()
