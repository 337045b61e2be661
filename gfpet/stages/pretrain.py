"""Stage `pretrain` (frozen): trains the embedded checkpoints from scratch. Its result is committed.

Usage: python -m gfpet.stages.pretrain FAMILY
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from gfpet.pipeline import Phase
from gfpet.stages._harness import main, stage
from gfpet.synthetic.pretrain import Point, pair_of, pretrain

CHECKPOINTS = Path("checkpoints")


def pretrain_pair(family: str) -> None:
    """Write `checkpoints/<family>/small` and `.../large`, each only once it is complete.

    Raises:
        ModelError: the family has no embedded pair.
    """
    pair = pair_of(family)
    with stage("pretrain", family) as run:
        torch.set_num_threads(run.params.models.threads)
        for size in pair.shapes:

            def report(point: Point, size: str = size) -> None:
                run.log_curve(f"{size}/loss", point.step, point.loss)
                run.say(f"{size}: step {point.step}, loss {point.loss:.3f}, {point.tokens_per_second:,.0f} tokens/s")

            made = run.work / size
            with run.measure(str(Phase("train", tag=size))):
                pretrain(family, size, made, report=report)
            target = CHECKPOINTS / family / size
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, target)


if __name__ == "__main__":
    main(lambda: pretrain_pair(*sys.argv[1:]))
