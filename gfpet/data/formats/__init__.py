"""Row formats: how the rows of one task become examples.

`flat` takes one row of columns and makes one example, and is all that a task file needs. Three tasks of SuperGLUE have
nested rows; each has a file here, and its task file names it (`rows: multirc`).
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
