"""Logs: JSON lines on standard error, with negz/q's keys `level`, `ts` (seconds since 1970) and `msg`."""

from __future__ import annotations

import logging
import sys
from time import time
from typing import TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger


def configure_logs(*, debug: bool, to: TextIO | None = None) -> None:
    """Send log lines from here on to a stream, by default standard error: from info up, or from debug up."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _stamp,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(to or sys.stderr),
        cache_logger_on_first_use=False,
    )


def _stamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {"level": event.pop("level"), "ts": time(), "msg": event.pop("event"), **event}
