"""The stage programs, one for each stage of `dvc.yaml`: `python -m gfpet.stages.<stage>`.

`gfpet run` starts a stage server, which has imported everything already: a program hands itself over to it here, before
the heavy imports. Without a server, as under plain `dvc repro`, this does nothing.
"""

from __future__ import annotations

import os as _os

if "GFPET_STAGE_SERVER" in _os.environ:
    from gfpet.stages._handover import hand_over as _hand_over

    _hand_over()
