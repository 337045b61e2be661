"""Direct write: what is trained reads the large model's activations and writes into its last hidden state.

No layer of the large model lies between what is written and the loss, so training needs its activations alone, computed
once, and what was trained is exactly what runs after plugging: no map, no Bridge, no gradient of the large model.
"""

from __future__ import annotations

from gfpet.method.readout._inputs import ReadoutInputs, read_large
from gfpet.method.readout._module import Readout, layers_to_read, start_readout
from gfpet.method.readout._train import fit_readout, with_readout

__all__ = ["Readout", "ReadoutInputs", "fit_readout", "layers_to_read", "read_large", "start_readout", "with_readout"]
