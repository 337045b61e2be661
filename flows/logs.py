"""Filters Prefect's log for a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gfpet.errors import GfpetError
from gfpet.secrets import without_secrets

_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Log `GfpetError`s without traceback; all other errors keep theirs."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_text_alone)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_text_alone)


def _text_alone(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, GfpetError):
        record.msg, record.args = without_secrets(str(error)), ()
        record.exc_info = record.exc_text = None
    return True
