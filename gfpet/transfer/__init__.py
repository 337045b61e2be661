"""Transfer strategies: ways of using, in the large model, what was learned outside of it.

A strategy is a function in a file of its own that makes a `Contender`: how examples are scored with it, and how well it
does on held-out training examples. Whatever a strategy chooses it chooses by these, with forward passes only.
"""

from __future__ import annotations

from gfpet.transfer._contender import Contender, Scorer, Trial, best, contender
from gfpet.transfer._logits import arithmetic
from gfpet.transfer._refined import drawn, refined
from gfpet.transfer._scaled import scaled

__all__ = ["Contender", "Scorer", "Trial", "arithmetic", "best", "contender", "drawn", "refined", "scaled"]
