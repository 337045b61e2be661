"""Similarity of modules' effects: the changes of the residual stream after every block, on the same text.

The effect at a block's output includes the effects of earlier blocks, as the model sees it. The comparison needs no map
between the two models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor, nn

from gfpet.lm.activations import captured, residual_of
from gfpet.lm.families import Family
from gfpet.lm.modules import PetModule, inserted
from gfpet.lm.scoring import Batch, backbone_of
from gfpet.method.align import Side, cka_pair
from gfpet.similarity._grid import Cell

Effects = list[Tensor]
"""`[tokens, d]` per block, in the order of `numbered`; the tokens are those of the block's stack."""
Cells = Iterable[Cell]

# Tokens for RSA (representational similarity analysis); its cost grows with their square.
_RSA_TOKENS = 200


def residuals(model: nn.Module, family: Family, batches: Sequence[Batch], *, tokens: int) -> Effects:
    """The residual stream after each block, at up to `tokens` evenly spaced tokens of its stack's text.

    The caller opens inference mode, and may insert a module. Positions that the module puts before the text are
    excluded.
    """
    stacks = [stack.name for stack in family.stacks]
    total = {stack: sum(sum(batch.texts[stack].lengths) for batch in batches) for stack in stacks}
    kept: list[list[Tensor]] = []
    seen = dict.fromkeys(stacks, 0)
    for batch in batches:
        with captured(model, family, map(residual_of, stacks)) as found:
            backbone_of(model, family)(batch)
        new: list[Tensor] = []
        for stack, real in batch.is_real.items():
            stride = max(1, -(-total[stack] // tokens))
            first = -seen[stack] % stride
            of_text = (states[:, -real.shape[1] :] for states in found[residual_of(stack)][1:])
            new += [states[real][first::stride].float() for states in of_text]
            seen[stack] += sum(batch.texts[stack].lengths)
        kept.append(new)
    return [torch.cat(parts) for parts in zip(*kept, strict=True)]


def effects(
    model: nn.Module, family: Family, module: PetModule, batches: Sequence[Batch], plain: Effects, *, tokens: int
) -> Effects:
    """The module's effects: the residual stream with it minus the one without it (`plain`, from `residuals`)."""
    with inserted(model, family, module):
        changed = residuals(model, family, batches, tokens=tokens)
    return [after - before for after, before in zip(changed, plain, strict=True)]


def compare_effects(ours: Effects, theirs: Effects, cells: Cells) -> dict[str, dict[Cell, float | None]]:
    """`cka`, `cka_debiased` and `rsa` at the given cells (block of the first, block of the second model)."""
    cells = list(cells)
    rows, columns = ({cell[side] for cell in cells} for side in (0, 1))
    first, second = {row: Side(ours[row]) for row in rows}, {column: Side(theirs[column]) for column in columns}
    found: dict[str, dict[Cell, float | None]] = {"cka": {}, "cka_debiased": {}}
    for row, column in cells:
        found["cka"][row, column], found["cka_debiased"][row, column] = cka_pair(first[row], second[column])
    shapes = [
        {layer: _token_likeness(side[layer]) for layer in each} for side, each in ((ours, rows), (theirs, columns))
    ]
    found["rsa"] = {(row, column): _dot(shapes[0][row], shapes[1][column]) for row, column in cells}
    return found


def _token_likeness(effect: Float[Tensor, "tokens d"]) -> np.ndarray | None:
    """Standardised ranks of the cosines between tokens; the dot product of two such vectors is a Spearman correlation.

    None if all cosines are equal.
    """
    stride = max(1, -(-len(effect) // _RSA_TOKENS))
    unit = torch.nn.functional.normalize(effect[::stride].double(), dim=1)
    above = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    # Round: the cosines of equal tokens differ in their last digits, and ranks would tell them apart.
    cosines = (unit @ unit.T)[above[0], above[1]].cpu().numpy().round(9)
    ranks = rankdata(cosines)
    centred = ranks - ranks.mean() if len(ranks) else ranks
    norm = float(np.linalg.norm(centred))
    result: np.ndarray | None = centred / norm if norm > 0 else None
    return result


def _dot(x: np.ndarray | None, y: np.ndarray | None) -> float | None:
    return None if x is None or y is None else float(x @ y)
