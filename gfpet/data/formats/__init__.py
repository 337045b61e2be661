"""Row formats: how a task's rows become examples.

`flat` makes one example of one row of columns, and suits most tasks. Three tasks of SuperGLUE have nested rows; each
has its own format here, which its task file names (`rows: multirc`).
"""

from gfpet.data.formats import flat, multirc, record, wsc
from gfpet.data.formats._format import Flat, RowFormat

FORMATS: dict[str, RowFormat] = {
    "flat": flat.FORMAT,
    "multirc": multirc.FORMAT,
    "record": record.FORMAT,
    "wsc": wsc.FORMAT,
}

__all__ = ["FORMATS", "Flat", "RowFormat"]
