"""The stage programs, one for each stage of `dvc.yaml`: `python -m gfpet.stages.<stage>`.

`gfpet run` starts a stage server with all heavy imports done. Importing this package hands the program over to the
server, before its own heavy imports. Without a server, as under plain `dvc repro`, the program runs here.
"""

from __future__ import annotations

import os as _os

if "GFPET_STAGE_SERVER" in _os.environ:
    from gfpet.stages._handover import hand_over as _hand_over

    _hand_over()
