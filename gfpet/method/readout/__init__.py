"""Readout: a side network that reads the large model's frozen activations and adds to its last hidden state.

Only the output embedding lies between the readout's output and the loss, so training needs the large model's
activations alone, computed once. It needs no W_plug, no Bridge and no gradient through the large model's layers.
The trained readout runs in the large model unchanged.
"""

from __future__ import annotations

from gfpet.method.readout._inputs import ReadoutInputs, read_large
from gfpet.method.readout._module import Readout, layers_to_read, start_readout
from gfpet.method.readout._runs import ReadLarge, cache_inputs, train_readout
from gfpet.method.readout._settings import ReadoutSettings, readout_settings
from gfpet.method.readout._train import fit_readout, with_readout

__all__ = [
    "ReadLarge",
    "Readout",
    "ReadoutInputs",
    "ReadoutSettings",
    "cache_inputs",
    "fit_readout",
    "layers_to_read",
    "read_large",
    "readout_settings",
    "start_readout",
    "train_readout",
    "with_readout",
]
