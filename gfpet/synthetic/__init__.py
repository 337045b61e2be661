"""The synthetic benchmark: a small generated language, and tasks in the eight schemas of SuperGLUE.

`corpus` generates the pretraining text, `generate` the task rows; `perfect_reader` answers them from the facts.
`gfpet.synthetic.tokenizer` and `gfpet.synthetic.pretrain` make the checkpoints; only these two need more than the
standard library.
"""

from gfpet.synthetic.benchmark import generate
from gfpet.synthetic.facts import SYNTHETIC_SEED, Facts, facts_of_seed
from gfpet.synthetic.prose import corpus
from gfpet.synthetic.reader import baselines, perfect_reader
from gfpet.synthetic.tasks import TASKS

__all__ = ["SYNTHETIC_SEED", "TASKS", "Facts", "baselines", "corpus", "facts_of_seed", "generate", "perfect_reader"]
