"""Direct write: what is trained reads the large model's activations and writes into its last hidden state.

No layer of the large model lies between what is written and the loss, so training needs its activations alone, computed
once, and what was trained is exactly what runs after plugging: no map, no Bridge, no gradient of the large model.
"""

from __future__ import annotations

from gfpet.write._inputs import WriteInputs, read_large
from gfpet.write._module import DirectWrite, start_write, taps_of
from gfpet.write._train import fit_write, writing

__all__ = ["DirectWrite", "WriteInputs", "fit_write", "read_large", "start_write", "taps_of", "writing"]
