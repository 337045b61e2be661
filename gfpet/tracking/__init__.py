"""MLflow tracking of code, parameters, inputs and results. Tracking never makes a stage fail or wait for long.

- `live`: logs a run while its stage runs;
- `publish`: makes the same run from a stage's files, for results from the cache, a remote, or a time without tracking;
- `parents`: the parent run of a whole pipeline, with its stages' runs as children;
- `compare`: shows runs side by side;
- `store`: where the runs are kept; `describe`: how they are named.

Each result has one run only: its `dvc.stage_key` (see `keys`) is looked up before a run is created.
"""

from gfpet.tracking.compare import Comparison, compare_runs
from gfpet.tracking.keys import examples_read, stage_key
from gfpet.tracking.live import StageTracker, track_stage
from gfpet.tracking.parents import PARENT_ENV, close_parent, open_parent, parent_environment
from gfpet.tracking.publish import publish_all, publish_stage
from gfpet.tracking.store import shown_uri, tracking_uri

__all__ = [
    "PARENT_ENV",
    "Comparison",
    "StageTracker",
    "close_parent",
    "compare_runs",
    "examples_read",
    "open_parent",
    "parent_environment",
    "publish_all",
    "publish_stage",
    "shown_uri",
    "stage_key",
    "track_stage",
    "tracking_uri",
]
