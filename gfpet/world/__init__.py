"""The world: a small generated language and benchmark in the eight schemas of SuperGLUE.

`corpus` is what models are pretrained on, `generate` makes task rows, `perfect_reader` answers them from the facts.
`gfpet.world.tokenizer` and `gfpet.world.pretrain` make the checkpoints; they alone need more than the standard library.
"""

from gfpet.world.benchmark import generate
from gfpet.world.facts import WORLD_SEED, World, world
from gfpet.world.prose import corpus
from gfpet.world.reader import baselines, perfect_reader
from gfpet.world.tasks import TASKS

__all__ = ["TASKS", "WORLD_SEED", "World", "baselines", "corpus", "generate", "perfect_reader", "world"]
